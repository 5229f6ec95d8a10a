"""Actions in containers of docker or podman, one container an action."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.config import ResourceLimits
from worker.materialise import Owner
from worker.process import Child, output_file
from worker.sandbox.engine import Answer, Engine
from worker.sandbox.interface import Finished, SandboxError, SandboxRequest, tail
from worker.sandbox.other_root import BUILD_PATH

_NOT_STARTED = (126, 127)
_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSettings:
    """How containers are run. `image` is the engine's id of it; `as_root`: as user 0 in there.

    `first_uid`: the worker is root, and slot n runs as first_uid + n. The limits are the engine's
    to keep: what a request says of them, and its `wrapper`, would be about the engine's program.
    """

    image: str
    limits: ResourceLimits
    as_root: bool = False
    first_uid: int | None = None


class ContainerSandbox:
    """Sandbox by a container engine (see `Sandbox`), for one image.

    No network unless the request says so, the image read-only, no capabilities, /tmp and the input
    root as everywhere. The environment is the image's with the request's over it.
    """

    def __init__(
        self,
        engine: Engine,
        settings: ContainerSettings,
        *,
        new_name: Callable[[], str] = lambda: f"distbuild-{secrets.token_hex(8)}",
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._new_name = new_name

    def inside(self, root: Path, *, is_file_system: bool = False) -> str:
        return BUILD_PATH

    def owner(self, slot: int) -> Owner | None:
        first = self._settings.first_uid
        if first is None or self._engine.is_rootless:
            return None
        return Owner(uid=first + slot, gid=first + slot)

    async def run(self, request: SandboxRequest, *, timeout: float | None) -> Finished:
        owner = self.owner(request.slot)
        request.temporary.mkdir(mode=0o700)
        if owner is not None:
            os.chown(request.temporary, owner.uid, owner.gid)
        name = self._new_name()
        with ExitStack() as stack:
            stdout = stack.enter_context(output_file(request.stdout, None, None))
            stderr = stack.enter_context(output_file(request.stderr, None, None))
            # Made first and by itself: whatever comes then, there is something to remove.
            making = asyncio.ensure_future(self._engine.call(*self.arguments(request, name)))
            try:
                made = await asyncio.shield(making)
                if made.code:
                    raise SandboxError(f"{self._engine.kind} makes no container: {made.complaint}")
                return await self._start(request, name, timeout, stdout, stderr)
            finally:
                await _to_the_end(self._remove(making, name))

    async def _start(
        self, request: SandboxRequest, name: str, timeout: float | None, stdout: int, stderr: int
    ) -> Finished:
        started = time.monotonic()
        try:
            child = Child(
                [self._engine.program, "start", "--attach", name],
                environment=os.environ,
                stdout=stdout,
                stderr=stderr,
            )
        except OSError as error:
            raise SandboxError(f"{self._engine.program}: {error.strerror}") from error
        try:
            async with asyncio.timeout(timeout):
                code = await child.wait()
        except TimeoutError:
            # The container goes with everything in it when it is removed.
            seconds = time.monotonic() - started
            return Finished(exit_code=_KILLED, timed_out=True, seconds=seconds)
        finally:
            child.kill()
            await _to_the_end(child.wait())
        seconds = time.monotonic() - started
        if code == 0:
            return Finished(exit_code=0, timed_out=False, seconds=seconds)
        return await self._failed(request, name, code, seconds)

    async def _failed(
        self, request: SandboxRequest, name: str, code: int, seconds: float
    ) -> Finished:
        """Whose exit code it is: the command's, or the engine's own."""
        answer = await self._engine.call("inspect", "--format", "{{json .State}}", name)
        try:
            state = json.loads(answer.stdout)
            real, status = int(state["ExitCode"]), str(state["Status"])
            out_of_memory = bool(state.get("OOMKilled"))
        except (ValueError, KeyError, TypeError) as error:
            said = f"{tail(request.stderr)} {answer.complaint}"
            raise SandboxError(f"{self._engine.kind} lost the container: {said}") from error
        if status not in ("exited", "stopped"):
            if real not in _NOT_STARTED and code not in _NOT_STARTED:
                raise SandboxError(
                    f"{self._engine.kind} cannot start the container: {tail(request.stderr)}"
                )
            real = real if real in _NOT_STARTED else code
        return Finished(
            exit_code=real, timed_out=False, seconds=seconds, ran_out_of_memory=out_of_memory
        )

    async def _remove(self, making: asyncio.Future[Answer], name: str) -> None:
        await asyncio.wait({making})
        if making.exception() is None:
            await self._engine.remove(name)

    def arguments(self, request: SandboxRequest, name: str) -> list[str]:
        """The engine's arguments that make the container of a request."""
        arguments = ["create", "--name", name, "--label", self._engine.label, "--pull", "never"]
        arguments += ["--hostname", "distbuild", "--log-driver", "none", "--read-only"]
        arguments += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        arguments += ["--security-opt", "label=disable", *self._user(request)]
        if not request.network:
            arguments += ["--network", "none"]
        for source, target in (
            (request.root, BUILD_PATH),
            (request.temporary, "/tmp"),
            (request.temporary, "/var/tmp"),
        ):
            arguments += ["--mount", _csv("type=bind", f"source={source}", f"target={target}")]
        arguments += _limits(self._settings.limits)
        for variable, value in request.environment.items():
            arguments += ["--env", f"{variable}={value}"]
        directory = f"{BUILD_PATH}/{request.working_directory}".rstrip("/")
        program, *rest = request.arguments
        arguments += ["--workdir", directory, "--entrypoint", program]
        return [*arguments, self._settings.image, *rest]

    def _user(self, request: SandboxRequest) -> list[str]:
        """Whoever it is in there, outside it is a user who may write to the action's directories.

        docker without root knows one such user, its containers' root.
        """
        if self._engine.is_rootless:
            if self._settings.as_root or self._engine.kind == "docker":
                return ["--user", "0:0"]
            return ["--userns", "keep-id", "--user", f"{os.geteuid()}:{os.getegid()}"]
        owner = self.owner(request.slot)
        if owner is None:
            return ["--user", f"{os.geteuid()}:{os.getegid()}"]
        return ["--user", f"{owner.uid}:{owner.gid}"]


def _limits(limits: ResourceLimits) -> Iterator[str]:
    if limits.memory_bytes is not None:
        yield from ("--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes))
    if limits.processes is not None:
        yield from ("--pids-limit", str(limits.processes))
    if limits.cpus is not None:
        yield from ("--cpus", f"{limits.cpus:g}")
    if limits.cpu_seconds is not None:
        yield from ("--ulimit", f"cpu={limits.cpu_seconds}")
    if limits.file_bytes is not None:
        yield from ("--ulimit", f"fsize={limits.file_bytes}")


def _csv(*fields: str) -> str:
    """Fields as --mount reads them."""
    return ",".join(
        '"' + field.replace('"', '""') + '"' if any(c in field for c in ',"\n') else field
        for field in fields
    )


async def _to_the_end(work: Coroutine[Any, Any, object]) -> None:
    """Await something although this task is cancelled; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            is_cancelled = True
    task.result()
    if is_cancelled:
        raise asyncio.CancelledError
