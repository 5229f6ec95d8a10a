"""What a program that was killed may have left behind: processes, mounts, temporary files."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SECONDS = 15.0
"""For the kernel and for whoever cleans up; a busy machine takes its time."""
TEMPORARY = (
    *("blobs/tmp", "assets", "sandbox-check", "worker/slots", "worker/sandbox/try"),
    *("worker/cache/temporary", "worker/processes"),
)
"""What in a server's data directory is empty or not there when nothing happens."""


def processes(mark: str | Path) -> list[str]:
    """Processes with `mark` in their command line or among their open files, but this one."""
    text = str(mark)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and (text in line or any(text in name for name in _open(entry))):
                found.append(f"{entry.name} {state} {line[:300]}")
        except OSError:
            continue  # it ended meanwhile
    return found


def half_born(mark: str | Path) -> list[str]:
    """Those of `processes` that bubblewrap had only just cloned when it was killed.

    They wait for it for ever. The program that ends what a worker left does away with them, and
    where that was killed too, the next worker.
    """
    return [line for line in processes(mark) if _is_half_born(line.split()[0])]


def _is_half_born(pid: str) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return False
    fields = dict(line.split(":", 1) for line in status.splitlines())
    is_first = fields["NSpid"].split()[1:] == ["1"]
    return fields["Name"].strip() == "bwrap" and is_first and not children


def commands(mark: str) -> list[int]:
    """Processes with `mark` in their command line: quicker than `processes`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
    return found


def _open(process: Path) -> Iterator[str]:
    for link in (process / "cwd", process / "root", *(process / "fd").iterdir()):
        try:
            yield os.readlink(link)
        except OSError:
            continue


def mounts(directory: Path) -> list[str]:
    """What is mounted at or below a directory, as this process sees it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = (line.split()[4] for line in lines)
    return [point for point in points if Path(point).is_relative_to(directory)]


def files(data_dir: Path, places: Iterable[str] = TEMPORARY) -> list[str]:
    """Temporary files in a server's data directory."""
    found = []
    for place in places:
        path = data_dir / place
        if path.is_dir():
            found += [str(entry) for entry in path.rglob("*") if not entry.is_dir()]
        elif path.exists():
            found.append(str(path))
    return found


async def nothing_left(*checks: Callable[[], list[str]], seconds: float = SECONDS) -> None:
    """Wait until all checks find nothing. Fails, saying what is left, after the time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while left := [each for check in checks for each in check()]:
        assert loop.time() < deadline, left
        await asyncio.sleep(0.05)
