"""Machines on one machine: network namespaces with a cable each to one switch.

A namespace lives as long as its holder, a `cat` that reads from this process, and what runs in it;
it has no name anywhere. So nothing is left behind, however the tests end, and nothing is changed
in the network of the machine that they run on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

SECONDS = 30
_NETWORK = "10.231.17"
"""Addresses within the namespaces alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A network of its own. `prefix` starts a program there, with the same process id."""

    address: str
    port: str
    prefix: tuple[str, ...]

    def run(self, *command: str) -> str:
        """The stdout of a command there. Raises CalledProcessError."""
        done = subprocess.run(
            [*self.prefix, *command], check=True, timeout=SECONDS, text=True, stdout=subprocess.PIPE
        )
        return done.stdout

    def get(self, port: int, path: str) -> str | None:
        """The answer of an HTTP server on its loopback; None when that is not 200."""
        code = (
            "import sys, urllib.request, urllib.error\n"
            "try: print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())\n"
            "except urllib.error.HTTPError: pass"
        )
        return self.run(sys.executable, "-c", code, f"http://127.0.0.1:{port}{path}") or None


class Switch:
    """What all machines are plugged into."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._count = 0
        # without root, the user namespace that the first one makes has all the others in it
        own_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        self._enter_user = ("--user", "--preserve-credentials") if own_user else ()
        holder = self._hold("unshare", *own_user, "--net", "cat")
        self._machine = Machine(address="", port="", prefix=self._prefix(holder))
        self._machine.run("ip", "link", "add", "switch", "type", "bridge")
        self._machine.run("ip", "link", "set", "switch", "up")

    def add(self) -> Machine:
        """Another machine, plugged in."""
        self._count += 1
        port = f"port{self._count}"
        holder = self._hold(*self._machine.prefix, "unshare", "--net", "cat")
        machine = Machine(
            address=f"{_NETWORK}.{self._count}", port=port, prefix=self._prefix(holder)
        )
        self._machine.run(
            *("ip", "link", "add", port, "type", "veth"),
            *("peer", "name", "cable", "netns", str(holder)),
        )
        self._machine.run("ip", "link", "set", port, "master", "switch")
        machine.run("ip", "link", "set", "lo", "up")
        machine.run("ip", "address", "add", f"{machine.address}/24", "dev", "cable")
        machine.run("ip", "link", "set", "cable", "up")
        self.plug(machine)
        return machine

    def unplug(self, machine: Machine) -> None:
        """Cut a machine off: what it sends is lost, and nobody is told."""
        self._machine.run("ip", "link", "set", machine.port, "down")

    def plug(self, machine: Machine) -> None:
        """Let it be reached again."""
        self._machine.run("ip", "link", "set", machine.port, "up")

    def _prefix(self, holder: int) -> tuple[str, ...]:
        return ("nsenter", "--target", str(holder), *self._enter_user, "--net", "--")

    def _hold(self, *command: str) -> int:
        """Start a holder, whose last word is `cat`; its process id, once it is where it will be."""
        holder = self._stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        assert holder.stdin is not None and holder.stdout is not None
        self._stack.callback(_end, holder)
        holder.stdin.write(b"there\n")
        holder.stdin.flush()
        assert holder.stdout.readline(), f"{command} ended with {holder.wait(SECONDS)}"
        return holder.pid


def _end(holder: subprocess.Popen[bytes]) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    holder.wait(SECONDS)


@contextmanager
def switch() -> Iterator[Switch]:
    """A switch; it and all that was plugged in are gone afterwards.

    What runs on the machines must have been ended by then.
    """
    with ExitStack() as stack:
        yield Switch(stack)


def descendants(pid: int) -> Sequence[tuple[int, str]]:
    """Process id and command line of everything below a process."""
    found: list[tuple[int, str]] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            children = _children(parent)
        except OSError:
            continue  # it ended meanwhile
        for child in children:
            found.append((child, _command_line(child)))
            waiting.append(child)
    return found


def _children(pid: int) -> list[int]:
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += [int(word) for word in file.read().split()]
    return found


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
