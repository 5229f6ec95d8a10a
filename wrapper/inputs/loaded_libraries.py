"""The shared libraries with which a compiler is loaded."""

from __future__ import annotations

import os
import re
import subprocess

LOADED = re.compile(
    r"/(usr/)?lib(32|64|x32)?(/.*)?"
    r"/(lib(c|m|dl|rt|pthread|util|z|zstd|gcc_s|stdc\+\+|tinfo|atomic)|ld-linux[-\w]*)\.so(\.[\d.]+)?"
    r"|/etc/ld\.so\.preload"
)
"""Those, and what names them, of most programs: what they do is the same in all versions."""

_TIMEOUT = 20.0
_LINE = re.compile(r"=> (/.*) \(0x[0-9a-f]+\)$", re.MULTILINE)


def libraries_of(program: str) -> tuple[str, ...]:
    """The paths of those of a program that most others have not. Blocks.

    Raises OSError and SubprocessError. None of what is linked statically, or by another loader than
    glibc's, which runs the program: it has to end by itself.
    """
    done = subprocess.run(
        [program], env={"LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True,
        timeout=_TIMEOUT, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found = map(os.path.abspath, _LINE.findall(done.stdout))
    return tuple(path for path in found if not LOADED.fullmatch(path))
