"""Disks so small that tests can fill them, in a mount namespace that ends with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECONDS = 30
_FILLER = ".filler"
_PAGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    """A tmpfs at `path`, for programs started by `prefix`; this process sees it at `seen`."""

    path: Path
    seen: Path
    prefix: tuple[str, ...]

    def fill_bytes(self) -> None:
        """Leave not a page free."""
        with (self.seen / _FILLER).open("ab", buffering=0) as file:
            for size in (1 << 20, _PAGE):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def fill_files(self) -> None:
        """Leave no file to be made."""
        fillers = self.seen / f"{_FILLER}s"
        fillers.mkdir()
        with contextlib.suppress(OSError):
            for number in range(10**6):
                (fillers / str(number)).touch()

    def free(self) -> None:
        """Take back what was filled."""
        (self.seen / _FILLER).unlink(missing_ok=True)
        shutil.rmtree(self.seen / f"{_FILLER}s", ignore_errors=True)


@contextlib.contextmanager
def small_disk(path: Path, *, megabytes: int, files: int = 100_000) -> Iterator[SmallDisk]:
    """A disk of that many megabytes and files at `path`, which is made.

    Its namespace lives as long as a holder that reads from this process, and what runs in it. End
    that first.
    """
    path.mkdir(parents=True)
    own_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    enter_user = ("--user", "--preserve-credentials") if own_user else ()
    options = f"size={megabytes}m,nr_inodes={files},mode=0755"
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && echo ready && exec cat'
    holder = subprocess.Popen(
        ["unshare", *own_user, "--mount", "sh", "-c", script, "sh", options, path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n", "a tmpfs cannot be mounted here"
        yield SmallDisk(
            path=path,
            seen=Path(f"/proc/{holder.pid}/root{path}"),
            prefix=("nsenter", "--target", str(holder.pid), *enter_user, "--mount", "--"),
        )
    finally:
        holder.communicate(timeout=SECONDS)
