"""Typing commands, and actions that run until they are told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from running import BIN

from remote_apis.client.settings import request_metadata
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.world import Client, Inputs

Done = subprocess.CompletedProcess[str]


def distbuild(*arguments: str | Path, **environment: str) -> Done:
    """Run `distbuild` to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISTBUILD_")}
    return subprocess.run(
        [BIN / "distbuild", *arguments], env=kept | environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


class Operator:
    """Somebody who types commands for one server."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def types(self, *arguments: str) -> Done:
        """One command, to its end."""
        return await asyncio.to_thread(distbuild, *arguments, DISTBUILD_SERVER=self._url)

    async def sees(self, *arguments: str) -> list[str]:
        """The lines that a command prints that must succeed."""
        done = await self.types(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.splitlines()

    async def reads(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        return json.loads("\n".join(await self.sees(*arguments, "--json")))

    async def states(self) -> dict[str, str]:
        """Each worker's state."""
        return {each["name"]: each["state"] for each in await self.reads("workers", "list")}

    async def until(self, **states: str) -> None:
        """Wait until the workers, `_` for `-` in their names, are in these states."""
        wanted = {name.replace("_", "-"): state for name, state in states.items()}
        async with asyncio.timeout(90):
            while (found := await self.states()) != wanted:
                print(f"waiting for {wanted}: {found}")
                await asyncio.sleep(0.1)


def failed(done: Done, *words: str) -> None:
    """Exit code 1, and one line on stderr that holds the words."""
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line


class Gate:
    """An action that runs until the gate opens; different for every gate."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def script(self) -> str:
        """Prints `out`."""
        return f"while [ ! -e {self._path} ]; do sleep 0.05; done; echo out"

    def open(self) -> None:
        """Let the action end."""
        self._path.touch()


@asynccontextmanager
async def executing(
    client: Client, script: str, *, target: str = "//some:target"
) -> AsyncIterator[asyncio.Task[re_pb.ExecuteResponse]]:
    """Execute for a target; the task is done with the response, and gone after the block."""
    command = re_pb.Command(arguments=["/bin/sh", "-c", script])
    root = await client.put_inputs(Inputs())
    digest = await client.put_action(command, root, action=re_pb.Action(do_not_cache=True))
    about = re_pb.RequestMetadata(
        action_mnemonic="Genrule", target_id=target, tool_invocation_id="build-7"
    )
    execution = client.execution.with_metadata(request_metadata(about))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(execution.execute(digest, timeout=100))
        try:
            yield task
        finally:
            task.cancel()
