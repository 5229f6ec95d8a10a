"""Actions in bubblewrap: own namespaces, no network, the machine's programs read-only."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from worker.materialise import Owner
from worker.process import Child, output_file
from worker.sandbox.command_line import command_line, is_long, write_script
from worker.sandbox.entry import Entry
from worker.sandbox.interface import Finished, SandboxError, SandboxRequest, tail
from worker.sandbox.limits import limited
from worker.sandbox.namespace import Namespace
from worker.sandbox.network import EmptyNetwork, can_come_back
from worker.sandbox.other_root import (
    BUILD_PATH,
    ORDINARY_UID,
    Places,
    has_other_root,
    other_root,
)
from worker.sandbox.system_view import PROCESSES, SystemView

_NAMESPACES = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-uts"),
    *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
    *("--hostname", "distbuild", "--clearenv"),
)
_INNER_BWRAP = "/run/bwrap"
_IMAGE = "/run/image"
_SCRIPT = "/run/command"


@dataclass(frozen=True, slots=True, kw_only=True)
class BubblewrapProgram:
    """How to start bubblewrap. `first_uid`: the worker is root, and slot n of `slots` runs as
    first_uid + n; without it actions have the worker's own user.

    `become`, if it was compiled, or `setpriv` drops to that user inside the sandbox. `more` paths
    of the machine are shown to actions, read-only.
    """

    bwrap: str
    become: Path | None = None
    setpriv: str | None = None
    first_uid: int | None = None
    slots: int = 1
    more: tuple[Path, ...] = ()


class BubblewrapSandbox:
    """Sandbox by bubblewrap (see `Sandbox`).

    When the worker is root, bubblewrap sets up the namespaces as root and the action runs as
    another user, so that it can neither write nor chmod the files of the cache. Otherwise user
    namespaces make the action the worker's own user, who could.

    An input root that is a whole file system becomes `/`, and the action root in it; an image
    becomes `/` around the input root. Where the action must not be the worker's user, a second
    bubblewrap does that inside the first, as the other user.
    """

    def __init__(
        self, program: BubblewrapProgram, directory: Path, tether: int | None = None
    ) -> None:
        """`directory` takes the /etc that actions see.

        `tether` (see `worker.tether`) is held by bubblewrap and the namespace's first process,
        never by the action.
        """
        self._program = program
        self._tether = tether
        self._keeps_networks = program.first_uid is not None and can_come_back()
        self._networks: dict[int, EmptyNetwork] = {}
        first = program.first_uid
        # No more than there are: every program that looks a user up reads all of them.
        users = [ORDINARY_UID] if first is None else range(first, first + program.slots)
        become = program.become
        self._entry = Entry(
            become=f"/etc/{become.name}" if become is not None else None, setpriv=program.setpriv
        )
        self._view, self._network_view = (
            SystemView(
                directory / name,
                users,
                program.more,
                added=[become] if become is not None else [],
                guarded=first is not None,
                network=network,
            )
            for name, network in (("etc", False), ("etc-network", True))
        )

    def inside(self, root: Path, *, is_file_system: bool = False) -> str:
        return "/" if is_file_system else BUILD_PATH

    def owner(self, slot: int) -> Owner | None:
        if self._program.first_uid is None:
            return None
        uid = self._program.first_uid + slot
        return Owner(uid=uid, gid=uid)

    async def run(self, request: SandboxRequest, *, timeout: float | None) -> Finished:
        owner = self.owner(request.slot)
        request.temporary.mkdir(mode=0o700)
        if owner is not None:
            os.chown(request.temporary, owner.uid, owner.gid)
        with ExitStack() as stack:
            uid, gid = (owner.uid, owner.gid) if owner is not None else (None, None)
            stdout = stack.enter_context(output_file(request.stdout, uid, gid))
            stderr = stack.enter_context(output_file(request.stderr, uid, gid))
            namespace = stack.enter_context(
                Namespace(has_inner=owner is not None and has_other_root(request))
            )
            line, inherited = self._arguments(request, owner, namespace)
            started = time.monotonic()
            try:
                with self._network(request):
                    child = Child(
                        [*request.wrapper, *line],
                        environment={},
                        stdout=stdout,
                        stderr=stderr,
                        inherited=inherited,
                    )
            except OSError as error:
                raise SandboxError(f"bubblewrap cannot be started: {error}") from error
            namespace.started()
            timed_out = await namespace.supervise(child, timeout)
            seconds = time.monotonic() - started
        if timed_out:
            return Finished(exit_code=128 + signal.SIGKILL, timed_out=True, seconds=seconds)
        code = namespace.exit_code
        if code is None:
            said = tail(request.stderr)
            # All was set up, and what bubblewrap was to run is not there: the action's own doing.
            if not (has_other_root(request) and said.startswith("bwrap: execvp ")):
                raise SandboxError(f"bubblewrap failed: {said}")
            code = 127
        return Finished(exit_code=code, timed_out=False, seconds=seconds)

    def _network(self, request: SandboxRequest) -> AbstractContextManager[None]:
        """Where bubblewrap is started: in the slot's network, or in the worker's own."""
        if request.network or not self._keeps_networks:
            return nullcontext()
        return self._networks.setdefault(request.slot, EmptyNetwork()).entered()

    def _arguments(
        self, request: SandboxRequest, owner: Owner | None, namespace: Namespace
    ) -> tuple[list[str], tuple[int, ...]]:
        """The command line, and the descriptors that it needs."""
        start = [self._program.bwrap, *_NAMESPACES, "--json-status-fd", str(namespace.status_fd)]
        if not request.network and not self._keeps_networks:
            start.append("--unshare-net")
        inherited: tuple[int, ...] = (namespace.status_fd,)
        if self._tether is not None:
            start += ["--sync-fd", str(self._tether)]
            inherited = (*inherited, self._tether)
        if not has_other_root(request):
            return self._in_view(start, request, owner), inherited
        if owner is not None:
            inner = str(namespace.inner_fd)
            line = self._in_second(start, request, owner, inner)
            return line, (*inherited, namespace.inner_fd)
        places = Places(
            root=str(request.root),
            temporary=str(request.temporary),
            proc=PROCESSES,
            image=str(request.image.root) if request.image is not None else "",
        )
        limits = limited(request.limits, with_processes=False)
        return [*limits, *start, *other_root(request, places)], inherited

    def _in_view(self, start: list[str], request: SandboxRequest, owner: Owner | None) -> list[str]:
        """The command among this machine's programs."""
        arguments = self._seen(start, request, owner)
        limits = request.limits
        line = self._entry.line(request.arguments, request.environment, limits, owner)
        if is_long(line):
            line = command_line(request.arguments, request.environment)
            script = write_script(request.stdout.with_name("command"), line)
            arguments += ["--ro-bind", str(script), _SCRIPT]
            line = self._entry.line(["/bin/sh", _SCRIPT], {}, limits, owner)
        arguments += ["--chdir", f"{BUILD_PATH}/{request.working_directory}".rstrip("/")]
        return [*arguments, "--remount-ro", "/", "--", *line]

    def _in_second(
        self, start: list[str], request: SandboxRequest, owner: Owner, status: str
    ) -> list[str]:
        """A second bubblewrap, as the other user, that makes the other root."""
        arguments = self._seen(start, request, owner)
        arguments += ["--ro-bind", self._program.bwrap, _INNER_BWRAP]
        if request.image is not None:
            arguments += ["--ro-bind", str(request.image.root), _IMAGE]
        # No other /proc can be mounted in there; this one is the outer sandbox's own.
        proc = ("--bind", "/proc", "/proc")
        places = Places(root=BUILD_PATH, temporary="/tmp", proc=proc, image=_IMAGE)
        line = [_INNER_BWRAP, "--json-status-fd", status, *other_root(request, places)]
        arguments += ["--remount-ro", "/", "--"]
        return [*arguments, *self._entry.line(line, {}, request.limits, owner)]

    def _seen(self, start: list[str], request: SandboxRequest, owner: Owner | None) -> list[str]:
        """What is mounted, and who mounts it."""
        view = self._network_view if request.network else self._view
        arguments = [*start, *view.arguments()]
        arguments += ["--bind", str(request.temporary), "/tmp"]
        arguments += ["--bind", str(request.root), BUILD_PATH]
        if owner is None:
            ordinary = str(ORDINARY_UID)
            return [*arguments, "--unshare-user", "--uid", ordinary, "--gid", ordinary]
        return [*arguments, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
