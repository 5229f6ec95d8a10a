"""Actions in bubblewrap: own namespaces, no network, the machine's programs read-only."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from worker.materialise import Owner
from worker.process import Child, output_file
from worker.sandbox.command_line import command_line, is_long, write_script
from worker.sandbox.interface import Finished, SandboxError, SandboxRequest, tail
from worker.sandbox.limits import limited
from worker.sandbox.namespace import Namespace
from worker.sandbox.system_view import DEVICES, system_view

BUILD_PATH = "/build"
"""Where every action on every worker sees its input root: outputs that hold paths stay equal."""
MAX_SLOTS = 1024
_ORDINARY_UID = 1000
_NAMESPACES = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
    *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
    *("--hostname", "distbuild", "--clearenv"),
)
_INNER_BWRAP = "/run/bwrap"
_SCRIPT = "/run/command"
_OWN_SCRIPT = ".distbuild-command"


@dataclass(frozen=True, slots=True, kw_only=True)
class BubblewrapProgram:
    """How to start bubblewrap. `first_uid`: the worker is root, and slot n runs as first_uid + n.

    `setpriv` drops to that user inside the sandbox; without it the action has the worker's own
    user. `more` paths of the machine are shown to actions, read-only.
    """

    bwrap: str
    setpriv: str | None = None
    first_uid: int | None = None
    more: tuple[Path, ...] = ()


class BubblewrapSandbox:
    """Sandbox by bubblewrap (see `Sandbox`).

    When the worker is root, bubblewrap sets up the namespaces as root and the action runs as
    another user, so that it can neither write nor chmod the files of the cache. Otherwise user
    namespaces make the action the worker's own user, who could.

    An input root that is a whole file system becomes `/`, and the action root in it. Where that
    must not be the worker's user, a second bubblewrap runs inside the first, as the other user.
    """

    def __init__(self, program: BubblewrapProgram, directory: Path) -> None:
        """`directory` takes the /etc that actions see; it is made anew."""
        self._program = program
        first = program.first_uid
        users = [_ORDINARY_UID] if first is None else range(first, first + MAX_SLOTS)
        self._view = system_view(directory / "etc", users, program.more)

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
            namespace = stack.enter_context(Namespace())
            started = time.monotonic()
            try:
                child = Child(
                    [*request.wrapper, *self._arguments(request, owner, namespace.status_fd)],
                    environment={},
                    stdout=stdout,
                    stderr=stderr,
                    inherited=(namespace.status_fd,),
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
            if not (request.is_file_system and said.startswith("bwrap: execvp ")):
                raise SandboxError(f"bubblewrap failed: {said}")
            code = 127
        return Finished(exit_code=code, timed_out=False, seconds=seconds)

    def _arguments(self, request: SandboxRequest, owner: Owner | None, status: int) -> list[str]:
        start = [self._program.bwrap, *_NAMESPACES, "--json-status-fd", str(status)]
        if owner is None and request.is_file_system:
            return [
                *limited(request.limits, with_processes=False),
                *start,
                *("--unshare-user", "--uid", "0", "--gid", "0"),
                *_as_root(request, str(request.root), str(request.temporary), ("--proc", "/proc")),
            ]
        arguments = [*start, *self._view]
        arguments += ["--bind", str(request.temporary), "/tmp"]
        arguments += ["--bind", str(request.root), BUILD_PATH]
        if owner is None:
            ordinary = str(_ORDINARY_UID)
            arguments += ["--unshare-user", "--uid", ordinary, "--gid", ordinary]
        else:
            arguments += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        line: list[str] = []
        if request.is_file_system:
            arguments += ["--ro-bind", self._program.bwrap, _INNER_BWRAP]
        else:
            line = command_line(request.arguments, request.environment)
            if is_long(line):
                script = write_script(request.stdout.with_name("command"), line)
                arguments += ["--ro-bind", str(script), _SCRIPT]
                line = ["/bin/sh", _SCRIPT]
            directory = f"{BUILD_PATH}/{request.working_directory}".rstrip("/")
            arguments += ["--chdir", directory]
        arguments += ["--remount-ro", "/", "--", *limited(request.limits, with_processes=True)]
        if owner is not None:
            assert self._program.setpriv is not None
            arguments += [self._program.setpriv, f"--reuid={owner.uid}", f"--regid={owner.gid}"]
            arguments += ["--clear-groups", "--inh-caps=-all", "--no-new-privs", "--"]
        if not request.is_file_system:
            return [*arguments, *line]
        arguments += [_INNER_BWRAP, "--unshare-user", "--uid", "0", "--gid", "0", "--clearenv"]
        # No other /proc can be mounted in there; this one is the outer sandbox's own.
        proc = ("--bind", "/proc", "/proc")
        return [*arguments, *_as_root(request, BUILD_PATH, "/tmp", proc)]


def _as_root(
    request: SandboxRequest, root: str, temporary: str, proc: tuple[str, ...]
) -> list[str]:
    """The input root as `/`; the program is looked up, and run, by bubblewrap itself."""
    arguments = ["--bind", root, "/", *proc, *DEVICES, "--bind", temporary, "/tmp"]
    for name, value in request.environment.items():
        arguments += ["--setenv", name, value]
    line = request.arguments
    if is_long(line):
        # In its /tmp, for want of another place outside the input root.
        script = write_script(request.temporary / _OWN_SCRIPT, line)
        line = ("sh", f"/tmp/{script.name}")
    return [*arguments, "--chdir", f"/{request.working_directory}", "--", *line]
