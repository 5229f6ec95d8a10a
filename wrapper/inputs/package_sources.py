"""The sources of a package, and whether they are all of its code."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping

from wrapper.inputs.cargo_manifests import library_root
from wrapper.inputs.code_reads import Reads, cropped
from wrapper.inputs.rust_text import OF_STD, without_comments

_ELSEWHERE = re.compile(
    rb'\bpath\s*=\s*"(?:[^"]*\.\./|[^"]*(?<!\.rs)")|\bstd\s*::\s*\$'
    rb'|\binclude\s*!\s*[(\[{]\s*(?!"[^"]*\.rs")|\binclude\s*!\s*[(\[{]\s*"[^"]*\.\./'
)
"""Code that is not among the package's sources, or is put together. A published package has all of
its code itself."""

_ANYWHERE = re.compile(rb'#\s*\[[^\]]*\bpath\s*=\s*(?:r#*"|"/|"[^"]*\\)')
"""The same in forms that are not looked into."""

_INCLUDED = rb'\binclude\s*!\s*[(\[{]\s*"((?:[\w-][\w.-]*/)*[\w-][\w.-]*)"'
_KNOWN = re.compile(
    rb"\binclude\s*!\s*[(\[{]\s*" + OF_STD + rb"concat\s*!\s*[(\[{]\s*" + OF_STD
    + rb'env\s*!\s*[(\[{]\s*"OUT_DIR"|' + _INCLUDED
)  # fmt: skip
"""Code that a build script makes, and what lies beside or below a source."""

_UPWARDS = re.compile(rb'\bpath\s*=\s*"((?:\.\./)+)((?:[\w-]+/)*[\w-]+\.rs)"')

_PUBLISHED = re.compile(r"/registry/src/[^/]*-[0-9a-f]{16}/[^/]+")
_OF_OTHER_TARGETS = ("tests", "benches", "examples", "fuzz", "build.rs")
_NOT_COMPILED_IN = ("target", ".git")


def is_published(package: str) -> bool:
    """Whether a package's directory is a registry's, unpacked by cargo."""
    return _PUBLISHED.search(package) is not None


def sources_of(package: str) -> list[os.DirEntry[str]]:
    """The Rust sources of a package that may be compiled in. Raises OSError."""
    top, below, _ = library_root(package).partition("/")
    is_apart = below != "" and top not in _OF_OTHER_TARGETS
    left_out = _NOT_COMPILED_IN + (_OF_OTHER_TARGETS if is_apart else ())
    found = []
    followed = {os.path.realpath(package)}
    pending = [package]
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if directory == package and entry.name in left_out:
                    continue
                if entry.is_symlink() and entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in followed:
                        followed.add(real)
                        pending.append(entry.path)
                elif entry.is_dir():
                    pending.append(entry.path)
                elif entry.name.endswith((".rs", ".inc")) and entry.is_file():
                    found.append(entry)
    return found


def contents(paths: Iterable[str]) -> dict[str, bytes]:
    """What is in some files, by their paths. Raises OSError."""
    found = {}
    for path in paths:
        with open(path, "rb") as file:
            found[path] = file.read()
    return found


def with_included(sources: dict[str, bytes]) -> dict[str, bytes]:
    """The same with the files of other names that they include, from beside or below. Raises
    OSError."""
    found, pending = dict(sources), list(sources)
    while pending:
        path = pending.pop()
        names = re.findall(_INCLUDED, found[path])
        beside = {os.path.join(os.path.dirname(path), os.fsdecode(name)) for name in names}
        more = [each for each in beside - found.keys() if os.path.isfile(each)]
        found |= contents(more)
        pending += more
    return found


def has_more(package: str, sources: Mapping[str, bytes]) -> bool:
    """Whether a package of the user's has code that is none of these sources, but for what its
    build script makes, which is taken to have no macros for others that ask for paths."""
    if is_published(package):
        return False
    written = ((path, _KNOWN.sub(b"", source)) for path, source in sources.items())
    return any(elsewhere(path, source, package, sources) for path, source in written)


def elsewhere(path: str, source: bytes, package: str, sources: Collection[str]) -> Reads | None:
    """What code may read of which one source says that it lies where they are not, if it does."""
    anywhere = _ANYWHERE.search(without_comments(source)) if b"path" in source else None
    if anywhere is not None:
        return Reads(suspect=cropped(anywhere.group()), is_seen=False)
    if not _ELSEWHERE.search(source):
        return None

    def without_those_within(match: re.Match[bytes]) -> bytes:
        ups, name = (os.fsdecode(part) for part in match.groups())
        is_within = _stays_within(path, ups.count("/"), name, package, sources)
        return b"" if is_within else match.group()

    match = _ELSEWHERE.search(_UPWARDS.sub(without_those_within, without_comments(source)))
    if match is None:
        return None
    said = match.group().decode(errors="replace").strip()
    return Reads(suspect=said, is_seen="../" not in said)


def _stays_within(path: str, count: int, name: str, package: str, sources: Collection[str]) -> bool:
    """Whether a module's file is one of the sources, however many modules around it take a step up
    each: those of one file have directories of their own. Links may lead elsewhere."""
    directory = os.path.dirname(path)
    below = os.path.relpath(directory, package)
    if os.path.realpath(directory) != os.path.normpath(f"{os.path.realpath(package)}/{below}"):
        return False
    with os.scandir(directory) as entries:
        if any(entry.is_symlink() for entry in entries):
            return False
    files = [f"{directory}/{name}"]
    for _ in range(count):
        if directory == package:
            return False
        directory = os.path.dirname(directory)
        files.append(f"{directory}/{name}")
    there = [file for file in files if os.path.exists(file)]
    return bool(there) and all(file in sources for file in there)
