"""The system's libraries as the linker may find them: all that has the name, wherever it looks.

Which of them is taken depends on the order of directories, on whether the link is static, and on
what a linker script says; the key has every one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator

from remote_apis.digest_functions import DigestFunction
from wrapper.inputs.file_digests import hash_file
from wrapper.inputs.toolchain import machine
from wrapper.rustc.arguments import NotUnderstood
from wrapper.sandbox import PATH

_TIMEOUT = 20.0
_LIBRARIES = re.compile(r"^libraries: =(.*)$", re.MULTILINE)
_MAX_SCRIPT = 1 << 16
_NAMES_IN_SCRIPT = re.compile(
    rb"(?:(?<=[\s(,])|^)(-l[\w+.-]+|/[\w/+.-]+|[\w+.-]+\.(?:so|a|o)[\w.]*)"
)


def system_library(name: str, linker: str, first: Iterable[str] = ()) -> str:
    """A digest of all that may be linked as `-lNAME`, also from directories that the linker is told
    to look in `first`. Raises NotUnderstood where nothing is."""
    total = hashlib.sha256()
    found = library_files(name, linker, first)
    for path in found:
        total.update(f"{os.path.basename(path)} {file_digest(path)}\0".encode())
    if not found:
        raise NotUnderstood(f"links the system library {name}, which is not found")
    return total.hexdigest()


def library_files(name: str, linker: str, first: Iterable[str] = ()) -> list[str]:
    """The real paths of the same, in the order in which they are looked for. Raises NotUnderstood
    where the linker does not say where it looks."""
    return list(_files_of(name, [*first, *_directories(linker)], set()))


def ask_program(program: str, question: str) -> str:
    """What a linker says of itself. Raises NotUnderstood."""
    st = os.stat(shutil.which(program, path=PATH) or program)
    return _answer(program, question, st.st_mtime_ns, st.st_ctime_ns)


def file_digest(path: str) -> str:
    """The digest of a file, hashed again when it changes. Raises OSError."""
    st = os.stat(path)
    return _digest_of(path, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def _answer(program: str, question: str, *times: int) -> str:
    try:
        done = subprocess.run(
            [program, question], capture_output=True, text=True, timeout=_TIMEOUT, check=True,
            stdin=subprocess.DEVNULL, env={"PATH": PATH, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise NotUnderstood(f"the linker {program} does not answer: {error}") from error
    return done.stdout.strip()


@functools.lru_cache(maxsize=1024)
def _digest_of(path: str, *identity: int) -> str:
    _, digest = hash_file(path, DigestFunction.SHA256)
    return digest.hash


def _directories(linker: str) -> list[str]:
    """Where the C compiler has the linker look, and then the linker itself."""
    found = _LIBRARIES.search(ask_program(linker, "-print-search-dirs"))
    own = found.group(1).split(":") if found else []
    triple = f"{machine()}-linux-gnu"
    ends = (f"lib/{triple}", "lib64", "lib")
    usual = [f"{root}/{end}" for end in ends for root in ("/usr/local", "", "/usr")]
    return list(dict.fromkeys(each for each in (*own, *usual) if each))


def _files_of(name: str, directories: list[str], seen: set[str]) -> Iterator[str]:
    for directory in directories:
        for file in (f"lib{name}.so", f"lib{name}.a"):
            yield from _with_named(f"{directory}/{file}", directories, seen)


def _with_named(path: str, directories: list[str], seen: set[str]) -> Iterator[str]:
    """A file, if it is there, and all that it names where it is a script of the linker's."""
    if not os.path.isfile(path):
        return
    real = os.path.realpath(path)
    if real in seen:
        return
    seen.add(real)
    yield real
    with open(real, "rb") as file:
        text = file.read(_MAX_SCRIPT)
    if text.startswith((b"\x7fELF", b"!<")):
        return
    for named in map(os.fsdecode, _NAMES_IN_SCRIPT.findall(text)):
        if named.startswith("-l"):
            yield from _files_of(named[2:], directories, seen)
            continue
        for directory in (os.path.dirname(path), *directories):
            yield from _with_named(os.path.join(directory, named), directories, seen)
