"""The link set: the files of a machine that rustc's linking reads, as one digest.

A program linked on a worker must be the one that would have been linked here. rustc links
through `cc`, which reads the C runtime's start files, libc and libgcc; workers offer the digest
of theirs as the platform property `link-set`, and linking actions ask for the user's.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess

PROPERTY = "link-set"
_PROGRAMS = ("collect2", "ld", "liblto_plugin.so", "lto-wrapper")
_FILES = (
    "Scrt1.o", "crt1.o", "crti.o", "crtn.o", "crtbegin.o", "crtbeginS.o", "crtend.o", "crtendS.o",
    "libc.so", "libc.so.6", "libc.a", "libc_nonshared.a", "libm.so", "libm.so.6", "libmvec.so.1",
    "libgcc.a", "libgcc_eh.a", "libgcc_s.so", "libgcc_s.so.1", "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1", "librt.a", "libpthread.a", "libutil.a", "libdl.a",
)  # fmt: skip
_TIMEOUT = 20.0


def link_set(cc: str | None = None) -> str | None:
    """The digest in hexadecimal, or None when the machine has no working C compiler.

    `cc` is the compiler's path; the one on PATH by default. The answer is remembered for as long
    as the compiler stays the same file.
    """
    path = cc or shutil.which("cc")
    if path is None:
        return None
    real = os.path.realpath(path)
    return _link_set(path, real, os.stat(real).st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _link_set(cc: str, real: str, mtime_ns: int) -> str | None:
    try:
        version = _ask(cc, "-v")
        found = [("cc", real)]
        found += [(name, _ask(cc, f"-print-prog-name={name}").strip()) for name in _PROGRAMS]
        found += [(name, _ask(cc, f"-print-file-name={name}").strip()) for name in _FILES]
    except (OSError, subprocess.SubprocessError):
        return None
    total = hashlib.sha256(version.encode())
    for name, path in found:
        total.update(f"{name} ".encode())
        if os.path.isabs(path) and os.path.isfile(path):
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _ask(cc: str, option: str) -> str:
    done = subprocess.run(
        [cc, option], capture_output=True, text=True, timeout=_TIMEOUT, check=True,
        stdin=subprocess.DEVNULL, env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout + done.stderr
