"""kill -9 of a program with what belongs to it, in the ways in which that happens."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess

from machines import descendants

WAYS = ("the program alone", "its process group", "the whole tree")


def kill(process: subprocess.Popen[str], way: str, chance: random.Random) -> None:
    """Kill in one of WAYS and wait for the program's own end.

    The tree is killed in any order, and once more for what was started meanwhile.
    """
    if way == "its process group":
        os.killpg(process.pid, signal.SIGKILL)
    elif way == "the whole tree":
        pids = [process.pid, *(pid for pid, _ in descendants(process.pid))]
        chance.shuffle(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait(30)
