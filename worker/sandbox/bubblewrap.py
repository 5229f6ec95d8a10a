"""Actions in bubblewrap: own namespaces, no network, the machine's programs read-only."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from worker.materialise import Owner
from worker.process import Child, output_file
from worker.sandbox.interface import Finished, SandboxError, SandboxRequest, tail
from worker.sandbox.limits import limited
from worker.sandbox.namespace import Namespace

BUILD_PATH = "/build"
"""Where every action on every worker sees its input root: outputs that hold paths stay equal."""
_SYSTEM_DIRECTORIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Parts of /etc that programs below /usr are incomplete without, and that tell nothing else.
_SHARED_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d")
_OPTIONAL_ETC = "java-*"


@dataclass(frozen=True, slots=True, kw_only=True)
class BubblewrapProgram:
    """How to start bubblewrap. `first_uid`: the worker is root, and slot n runs as first_uid + n.

    `setpriv` drops to that user inside the sandbox; without it the action has the worker's own
    user.
    """

    bwrap: str
    setpriv: str | None = None
    first_uid: int | None = None


class BubblewrapSandbox:
    """Sandbox by bubblewrap (see `Sandbox`).

    When the worker is root, bubblewrap sets up the namespaces as root and the action runs as
    another user, so that it can neither write nor chmod the files of the cache. Otherwise user
    namespaces make the action the worker's own user, who could.
    """

    def __init__(self, program: BubblewrapProgram, directory: Path) -> None:
        """`directory` takes the /etc that actions see; it is made anew."""
        self._program = program
        self._etc = directory / "etc"
        shutil.rmtree(self._etc, ignore_errors=True)
        self._fixed = [*self._namespaces(), *self._system(directory)]

    def inside(self, root: Path) -> str:
        return BUILD_PATH

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
                    self._arguments(request, owner, namespace.status_fd),
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
        if namespace.exit_code is None:
            raise SandboxError(f"bubblewrap failed: {tail(request.stderr)}")
        return Finished(exit_code=namespace.exit_code, timed_out=False, seconds=seconds)

    def _namespaces(self) -> list[str]:
        flags = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
        flags += ["--unshare-cgroup-try", "--die-with-parent", "--new-session"]
        flags += ["--hostname", "distbuild", "--clearenv"]
        if self._program.first_uid is None:
            return [*flags, "--unshare-user", "--uid", "1000", "--gid", "1000"]
        return [*flags, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]

    def _system(self, directory: Path) -> list[str]:
        arguments = ["--ro-bind", "/usr", "/usr"]
        for name in _SYSTEM_DIRECTORIES:
            path = Path(name)
            if path.is_symlink():
                arguments += ["--symlink", os.readlink(path), name]
            elif path.is_dir():
                arguments += ["--ro-bind", name, name]
        self._make_etc()
        arguments += ["--ro-bind", str(self._etc), "/etc"]
        host_etc = Path("/etc")
        shared = [host_etc / name for name in _SHARED_ETC if (host_etc / name).exists()]
        for path in [*shared, *sorted(host_etc.glob(_OPTIONAL_ETC))]:
            (self._etc / path.name).mkdir() if path.is_dir() else (self._etc / path.name).touch()
            arguments += ["--ro-bind", str(path), str(path)]
        arguments += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
        arguments += ["--perms", "1777", "--tmpfs", "/dev/shm", "--dir", "/run", "--dir", "/var"]
        return [*arguments, "--symlink", "/tmp", "/var/tmp"]

    def _make_etc(self) -> None:
        """Names for the users that actions run as, and nothing of this machine's."""
        self._etc.mkdir(parents=True, mode=0o755)
        first = self._program.first_uid
        users = [1000] if first is None else range(first, first + 1024)
        passwd = ["root:x:0:0::/:/bin/sh", "nobody:x:65534:65534::/:/bin/false"]
        group = ["root:x:0:", "nogroup:x:65534:"]
        for uid in users:
            passwd.append(f"build:x:{uid}:{uid}::/tmp:/bin/sh")
            group.append(f"build:x:{uid}:")
        files = {
            "passwd": "\n".join(passwd),
            "group": "\n".join(group),
            "hosts": "127.0.0.1 localhost\n::1 localhost",
            "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files",
        }
        for name, content in files.items():
            (self._etc / name).write_text(content + "\n")
            (self._etc / name).chmod(0o644)

    def _arguments(self, request: SandboxRequest, owner: Owner | None, status: int) -> list[str]:
        arguments = [self._program.bwrap, *self._fixed, "--json-status-fd", str(status)]
        arguments += ["--bind", str(request.temporary), "/tmp"]
        arguments += ["--bind", str(request.root), BUILD_PATH, "--remount-ro", "/"]
        arguments += ["--chdir", f"{BUILD_PATH}/{request.working_directory}".rstrip("/"), "--"]
        arguments += limited(request.limits, with_processes=True)
        if owner is not None:
            assert self._program.setpriv is not None
            arguments += [self._program.setpriv, f"--reuid={owner.uid}", f"--regid={owner.gid}"]
            arguments += ["--clear-groups", "--inh-caps=-all", "--no-new-privs", "--"]
        return [*arguments, *command_line(request.arguments, request.environment)]


def command_line(arguments: tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
    """The command under env(1): it sets exactly `environment` and looks the program up in it.

    Not bubblewrap's own --setenv: an LD_PRELOAD there would be loaded into the program that still
    has to give up root. A program name with an equals sign would be taken for a variable; sh runs
    that.
    """
    line = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    if "=" in arguments[0]:
        line += ["/bin/sh", "-c", 'exec "$0" "$@"']
    return [*line, *arguments]
