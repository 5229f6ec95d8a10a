"""docker or podman as a program: found at the start, called for images and containers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from remote_apis.container_image import ImageReference
from remote_apis.errors import FailedPrecondition, InvalidRequest
from worker.sandbox.interface import SandboxError

_LOG = logging.getLogger(__name__)
KINDS = ("podman", "docker")
_LABEL = "distbuild.worker"
_CALL_SECONDS = 120.0
_PULL_SECONDS = 3600.0
_PROBE_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the engine's program said."""

    code: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The last of what went wrong, in one line."""
        return " ".join(self.stderr[-1000:].split()) or f"exit code {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A container engine that works. `kind` is docker or podman.

    `is_rootless`: its containers' user 0 is the worker's own user. `label` marks the containers of
    this worker.
    """

    program: str
    kind: str
    is_rootless: bool
    label: str

    async def call(self, *arguments: str, seconds: float = _CALL_SECONDS) -> Answer:
        """Run the engine's program. Raises SandboxError when it cannot be run or takes too long."""
        return await _call(self.program, *arguments, seconds=seconds)

    async def remove(self, *containers: str) -> None:
        """Kill containers, with everything in them, and forget them."""
        answer = await self.call("rm", "--force", "--volumes", *containers)
        if answer.code:
            _LOG.warning("%s cannot remove %s: %s", self.kind, containers, answer.complaint)

    async def remove_leftovers(self) -> None:
        """End what a worker that was killed left running in the same directory."""
        answer = await self.call("ps", "--all", "--quiet", "--filter", f"label={self.label}")
        left = answer.stdout.split()
        if left:
            await self.remove(*left)


async def open_engine(choice: str, directory: Path) -> Engine | None:
    """The engine for `auto`, `docker` or `podman`; None where `auto` finds none that works.

    `directory` is the worker's, and tells its containers from others'. Raises InvalidRequest when
    the one that was asked for does not work.
    """
    why = []
    for kind in KINDS if choice == "auto" else (choice,):
        program = shutil.which(kind)
        if program is None:
            why.append(f"{kind} is not on PATH")
            continue
        try:
            answer = await _call(program, "info", "--format", "{{json .}}", seconds=_PROBE_SECONDS)
            rootless = _is_rootless(kind, answer)
        except SandboxError as error:
            why.append(str(error))
            continue
        if rootless is None:
            why.append(f"{kind} info: {answer.complaint}")
            continue
        name = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:16]
        engine = Engine(program=program, kind=kind, is_rootless=rootless, label=f"{_LABEL}={name}")
        await engine.remove_leftovers()
        return engine
    if choice != "auto":
        raise InvalidRequest(
            f"--container-engine {choice}: {'; '.join(why)}; start the engine, let this user use "
            "it, or leave the option out"
        )
    return None


class EngineImages:
    """Has the engine pull what it lacks, each image once at a time. Close it at the end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._tasks: dict[str, asyncio.Task[str]] = {}

    async def close(self) -> None:
        """Break off what is being pulled."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def image_id(self, reference: ImageReference) -> str:
        """The id of an image that the engine has by then.

        Raises FailedPrecondition, with the engine's words, when it cannot be had.
        """
        name = reference.engine_name
        assert name is not None
        found = await self._inspect(name)
        if found is not None:
            return found
        task = self._tasks.get(name)
        if task is None:
            task = asyncio.create_task(self._pull(name, reference.text))
            # Also where nobody waits for it any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._tasks[name] = task
        return await asyncio.shield(task)

    async def _inspect(self, name: str) -> str | None:
        answer = await self.engine.call("image", "inspect", "--format", "{{.Id}}", name)
        lines = answer.stdout.split()
        return lines[0] if answer.code == 0 and lines else None

    async def _pull(self, name: str, text: str) -> str:
        try:
            answer = await self.engine.call("pull", "--quiet", name, seconds=_PULL_SECONDS)
            found = await self._inspect(name) if answer.code == 0 else None
            if found is None:
                raise FailedPrecondition(
                    f"container-image {text!r}: {self.engine.kind} cannot get it "
                    f"({answer.complaint}); check its name, or pull it on the worker's machine"
                )
            return found
        finally:
            del self._tasks[name]


async def _call(program: str, *arguments: str, seconds: float) -> Answer:
    what = f"{program} {arguments[0]}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(f"{what}: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        raise SandboxError(f"{what} took more than {seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Answer(
        code=process.returncode or 0,
        stdout=stdout.decode(errors="replace"),
        stderr=stderr.decode(errors="replace"),
    )


def _is_rootless(kind: str, answer: Answer) -> bool | None:
    """Whether the engine runs without root; None when it does not run at all."""
    try:
        info = json.loads(answer.stdout)
        if answer.code != 0:
            return None
        if kind == "podman":
            return bool(info["host"]["security"]["rootless"])
        if not info["ServerVersion"]:
            return None
        return any("name=rootless" in option for option in info["SecurityOptions"] or ())
    except (ValueError, KeyError, TypeError):
        return None
