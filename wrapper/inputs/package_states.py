"""Has anything changed in a package? Told from its files' number, sizes and times."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from wrapper.inputs.build_starts import BuildStarts

State = tuple[int, int, int]
_TRUSTED_SECONDS = 2.0


class PublishedStates:
    """States of packages that cargo unpacked from a registry.

    Nobody changes these but to look into a problem, and each unit asks for all that it stands on:
    they are looked at once in a build, and every two seconds.
    """

    def __init__(self, builds: BuildStarts) -> None:
        self._builds = builds
        self._known: dict[str, tuple[float, State]] = {}

    def of(self, package: str) -> State:
        """Equal as long as nothing was changed. Raises OSError."""
        now = time.monotonic()
        looked_at, state = self._known.get(package, (float("-inf"), (0, 0, 0)))
        if not self._builds.is_recent(looked_at, _TRUSTED_SECONDS):
            state = state_of(_files_in(package))
            self._known[package] = now, state
        return state


def state_of(files: Iterable[os.stat_result]) -> State:
    """How many, how large together, and when one was last changed: the time of a file's status
    tells of one whose own was put back."""
    count = total = newest = 0
    for st in files:
        count += 1
        total += st.st_size
        newest = max(newest, st.st_mtime_ns, st.st_ctime_ns)
    return count, total, newest


def _files_in(directory: str) -> Iterator[os.stat_result]:
    pending = [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False)
