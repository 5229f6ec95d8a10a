"""What `git ls-tree` says, and where `git cat-file --batch` puts the bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.asset.errors import OriginError, Reason
from server.asset.trees import EntryKind, TreeEntry

_SYMLINK = "120000"
_SUBMODULE = "160000"
_EXECUTABLE = "100755"
_MAX_TARGET = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry of a commit's tree; the name of its object, and its size (0 for a submodule)."""

    mode: str
    name: str
    size: int
    path: str


def parse_listing(output: bytes) -> list[Line]:
    """Parse the output of `git ls-tree -r -z -l`."""
    lines = []
    for line in output.split(b"\0"):
        if line:
            head, _, path = line.partition(b"\t")
            mode, _kind, name, size = head.decode().split()
            is_submodule = mode == _SUBMODULE
            lines.append(
                Line(
                    mode=mode,
                    name=name,
                    size=0 if is_submodule else int(size),
                    path=os.fsdecode(path),
                )
            )
    return lines


def layout(lines: Sequence[Line]) -> tuple[dict[str, int], int]:
    """Where each object's bytes are in the output of cat-file, asked in this order; its size.

    Each object comes as a line with its name, type and size, its bytes and a newline.
    """
    offsets: dict[str, int] = {}
    total = 0
    for line in lines:
        if line.mode != _SUBMODULE and line.name not in offsets:
            offsets[line.name] = total + len(f"{line.name} blob {line.size}\n")
            total = offsets[line.name] + line.size + 1
    return offsets, total


def to_entries(lines: Sequence[Line], offsets: Mapping[str, int], content: Path) -> list[TreeEntry]:
    """The tree's entries; a submodule is an empty directory, as in a fresh clone.

    Raises OriginError ABORTED for a symlink whose target is no path.
    """
    with content.open("rb") as file:
        return [_to_entry(line, offsets, file.fileno()) for line in lines]


def _to_entry(line: Line, offsets: Mapping[str, int], content: int) -> TreeEntry:
    if line.mode == _SUBMODULE:
        return TreeEntry(path=line.path, kind=EntryKind.DIRECTORY)
    offset = offsets[line.name]
    if line.mode == _SYMLINK:
        if line.size > _MAX_TARGET:
            raise OriginError(Reason.ABORTED, f"symlink {line.path[:160]!r} has a huge target")
        target = os.fsdecode(os.pread(content, line.size, offset))
        return TreeEntry(path=line.path, kind=EntryKind.SYMLINK, target=target)
    return TreeEntry(
        path=line.path,
        kind=EntryKind.FILE,
        offset=offset,
        size=line.size,
        is_executable=line.mode == _EXECUTABLE,
    )
