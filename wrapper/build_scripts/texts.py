"""The texts that a run read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from wrapper.build_scripts.names import is_below
from wrapper.searching import mapped

_MAX_TEXT = 1 << 20
_NO_TEXT = (b"\x7fELF", b"!<arch>\n")
_OF_THE_MACHINE = ("/usr/", "/lib", "/bin/", "/sbin/", "/etc/", "/proc/", "/sys/", "/dev/")


def texts_read(reads: Mapping[str, str], others: Sequence[str] = ()) -> Iterator[tuple[str, bytes]]:
    """The texts that were read, of all but this machine's own files, and those below `others`, by
    their paths."""
    for path, kind in reads.items():
        is_own = path.startswith(_OF_THE_MACHINE) or is_below(path, others)
        if kind == "o" and not is_own and os.path.isfile(path):
            yield path, text_of(path)


def text_of(path: str) -> bytes:
    """A file's bytes; none of what is too large for a text, or a program or library."""
    with mapped(path) as data:
        return data[:] if len(data) <= _MAX_TEXT and not data[:8].startswith(_NO_TEXT) else b""
