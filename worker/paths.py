"""Paths that came from others: names in Directories, working directories, outputs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from remote_apis.errors import FailedPrecondition, InvalidRequest

_MAX_SYMLINKS = 40


def join_inside(base: str, path: str, what: str) -> str:
    """`path`, relative to `base`, as a path below the input root without `.` and `..`.

    The root itself is the empty path. Raises InvalidRequest when the path is absolute, ends in a
    slash, holds an empty segment or a NUL, or leads out of the input root.
    """
    if not path:
        return base
    if path.startswith("/") or path.endswith("/") or "\0" in path or "//" in path:
        raise InvalidRequest(f"{what} {path[:300]!r} is not a relative path without extra slashes")
    segments = base.split("/") if base else []
    for segment in path.split("/"):
        if segment == "..":
            if not segments:
                raise InvalidRequest(f"{what} {path[:300]!r} leads out of the input root")
            segments.pop()
        elif segment != ".":
            segments.append(segment)
    return "/".join(segments)


class ActionRoot:
    """The input root of a finished or not yet started action, seen as the action sees it.

    Symbolic links are followed inside the root alone: an action must not make the worker read or
    write files of the machine. `inside` is where the action sees the root.
    """

    def __init__(self, root: Path, inside: str) -> None:
        self.root = root
        self._inside = inside.rstrip("/")

    def resolve(self, path: str, *, follow_last: bool) -> Path | None:
        """Where `path`, relative to the root, is on the machine; None when it does not exist.

        Without `follow_last` a symbolic link at the very end is not followed. Raises
        FailedPrecondition when a link leads out of the root or there are too many.
        """
        pending = [segment for segment in path.split("/") if segment][::-1]
        done: list[str] = []
        links = 0
        while pending:
            segment = pending.pop()
            if segment == ".":
                continue
            if segment == "..":
                if not done:
                    raise FailedPrecondition(f"{path!r} leads out of the input root")
                done.pop()
                continue
            here = self.root.joinpath(*done, segment)
            try:
                mode = os.lstat(here).st_mode
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not stat.S_ISLNK(mode) or (not pending and not follow_last):
                done.append(segment)
                continue
            links += 1
            if links > _MAX_SYMLINKS:
                raise FailedPrecondition(f"{path!r} goes through too many symbolic links")
            target = os.readlink(here)
            if target.startswith("/"):
                target = self._from_absolute(target, path)
                done = []
            pending.extend([part for part in target.split("/") if part][::-1])
        return self.root.joinpath(*done)

    def _from_absolute(self, target: str, path: str) -> str:
        if target == self._inside or target.startswith(f"{self._inside}/"):
            return target[len(self._inside) :]
        raise FailedPrecondition(f"{path!r} goes through a symbolic link to {target!r}, outside")
