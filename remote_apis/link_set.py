"""The link set: the files of a machine that rustc's linking reads, as one digest.

A program linked on a worker must be the one that would have been linked here. rustc links
through `cc`, which reads the C runtime's start files, libc and libgcc; workers offer the digest
of theirs as the platform property `link-set`, and linking actions ask for the user's.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterable

PROPERTY = "link-set"
_PROGRAMS = ("collect2", "ld", "liblto_plugin.so", "lto-wrapper")
_FILES = (
    "Scrt1.o", "crt1.o", "rcrt1.o", "gcrt1.o", "crti.o", "crtn.o", "crtbegin.o", "crtbeginS.o",
    "crtbeginT.o", "crtend.o", "crtendS.o", "libc.so", "libc.so.6", "libc.a", "libc_nonshared.a",
    "libm.a", "libm.so", "libm.so.6", "libmvec.so.1", "libgcc.a", "libgcc_eh.a", "libgcc_s.so",
    "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "librt.a", "librt.so",
    "librt.so.1", "libpthread.a", "libpthread.so", "libpthread.so.0", "libutil.a", "libutil.so",
    "libutil.so.1", "libdl.a", "libdl.so", "libdl.so.2",
)  # fmt: skip
_ARCHIVE = re.compile(rb"/[^\s()]+\.a\b")
_MAX_SCRIPT = 4096
_TIMEOUT = 20.0
_ASKING = threading.Lock()


def link_set(cc: str | None = None) -> str | None:
    """The digest in hexadecimal, or None when the machine has no working C compiler.

    `cc` is the compiler's path; the one on PATH by default. Each file is hashed again when its
    stat changes.
    """
    found = _of_compiler(cc)
    if found is None:
        return None
    version, files = found
    return _digest(version, tuple((name, file, _seen(file)) for name, file in files))


def files(cc: str | None = None) -> frozenset[str]:
    """The real paths of the set's files; none where there is no working C compiler."""
    found = _of_compiler(cc)
    if found is None:
        return frozenset()
    return _real_paths(tuple(file for _, file in found[1] if os.path.isabs(file)))


def _of_compiler(cc: str | None) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    """What `_found` says of a compiler that works."""
    path = cc or shutil.which("cc")
    if path is None:
        return None
    try:
        real = os.path.realpath(path)
        with _ASKING:
            return _found(path, real, os.stat(real).st_mtime_ns)
    except (OSError, subprocess.SubprocessError):
        return None


@functools.lru_cache(maxsize=8)
def _real_paths(paths: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(os.path.realpath, paths))


@functools.lru_cache(maxsize=8)
def _found(cc: str, real: str, mtime_ns: int) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What the compiler says of itself, and where it finds each file."""
    # the lines left out say by which path it was called
    lines = _ask(cc, "-v").splitlines()
    version = "\n".join(line for line in lines if not line.startswith("COLLECT_"))
    found = [("cc", real)]
    # in these directories it looks itself for what `-print-file-name` names, a process each
    said = _ask(cc, "-print-search-dirs")
    programs, libraries = (_search(said, name) for name in ("programs", "libraries"))
    for name in _PROGRAMS:
        found.append((name, _first(name, programs, os.X_OK) or shutil.which(name) or ""))
    found += [(name, _first(name, libraries, os.R_OK) or name) for name in _FILES]
    archives = _named_by(_first("libm.a", libraries, os.R_OK))
    found += [(os.path.basename(path), path) for path in archives]
    return version, tuple(found)


def _search(said: str, name: str) -> list[str]:
    """The directories of a line like `libraries: =/a/:/b/`, in their order.

    Raises SubprocessError: a set without the files that are there would fit other machines' too.
    """
    prefix = f"{name}: ="
    for line in said.splitlines():
        if line.startswith(prefix):
            return line.removeprefix(prefix).split(":")
    raise subprocess.SubprocessError(f"the C compiler does not say where its {name} are")


def _first(name: str, directories: Iterable[str], access: int) -> str | None:
    """The first file of that name that may be used."""
    paths = (os.path.join(directory, name) for directory in directories)
    return next((path for path in paths if os.access(path, access)), None)


def _named_by(archive: str | None) -> list[str]:
    """The archives that stand in one's place, where that is a linker script."""
    if archive is None:
        return []
    with open(archive, "rb") as file:
        text = file.read(_MAX_SCRIPT)
    return [] if text.startswith(b"!<arch>") else list(map(os.fsdecode, _ARCHIVE.findall(text)))


def _seen(path: str) -> tuple[int, int, int, int] | None:
    if not os.path.isabs(path):
        return None
    try:
        st = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(st.st_mode):
        return None
    return st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


@functools.lru_cache(maxsize=8)
def _digest(version: str, files: tuple[tuple[str, str, tuple[int, ...] | None], ...]) -> str:
    total = hashlib.sha256(version.encode())
    for name, path, seen in files:
        total.update(f"\0{name}\0".encode())
        if seen is not None:
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _ask(cc: str, option: str) -> str:
    done = subprocess.run(
        [cc, option], capture_output=True, text=True, timeout=_TIMEOUT, check=True,
        stdin=subprocess.DEVNULL, env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout + done.stderr
