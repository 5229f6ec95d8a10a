"""Clients that run many small actions, each one different."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence

import grpc.aio

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc

_FUNCTION = DigestFunction.SHA256
_BATCH = 1000


class Load:
    """Actions that run `command` in an empty input root, on one server."""

    def __init__(self, channel: grpc.aio.Channel, command: Sequence[str] = ("true",)) -> None:
        self._execution = re_grpc.ExecutionStub(channel)
        self._cas = re_grpc.ContentAddressableStorageStub(channel)
        self._command = re_pb.Command(arguments=command)
        self._salts = itertools.count(time.time_ns())
        self.sent_at: dict[str, float] = {}
        """When each action was asked for, by its hash."""

    async def prepare(self, count: int, root: bytes = b"") -> list[Digest]:
        """Upload that many new actions over the Directory `root`."""
        command = self._command.SerializeToString()
        root_digest = Digest.of(root, _FUNCTION)
        blobs = [command, root]
        actions = []
        for _ in range(count):
            action = re_pb.Action(
                command_digest=Digest.of(command, _FUNCTION).to_message(),
                input_root_digest=root_digest.to_message(),
                salt=str(next(self._salts)).encode(),
            ).SerializeToString()
            blobs.append(action)
            actions.append(Digest.of(action, _FUNCTION))
        await self.upload(blobs)
        return actions

    async def upload(self, blobs: Sequence[bytes]) -> None:
        """Put small blobs into the CAS."""
        for start in range(0, len(blobs), _BATCH):
            request = re_pb.BatchUpdateBlobsRequest()
            for data in blobs[start : start + _BATCH]:
                if data:
                    request.requests.add(digest=Digest.of(data, _FUNCTION).to_message(), data=data)
            for answer in (await self._cas.BatchUpdateBlobs(request)).responses:
                if answer.status.code:
                    raise SystemExit(f"an upload failed: {answer.status.message}")

    async def execute(self, action: Digest) -> float:
        """Run one action; seconds until its result is there."""
        start = time.perf_counter()
        self.sent_at[action.hash] = start
        await self.result_of(action)
        return time.perf_counter() - start

    async def result_of(self, action: Digest) -> re_pb.ActionResult:
        """Run one action that has not run before. Ends the measurement when it fails."""
        response = re_pb.ExecuteResponse()
        request = re_pb.ExecuteRequest(action_digest=action.to_message())
        async for operation in self._execution.Execute(request):
            operation.response.Unpack(response)
        if response.status.code or response.result.exit_code or response.cached_result:
            raise SystemExit(f"action {action} did not run: {response}")
        return response.result

    async def accept(self, actions: Sequence[Digest]) -> None:
        """Have actions queued, and hang up."""
        for action in actions:
            call = self._execution.Execute(re_pb.ExecuteRequest(action_digest=action.to_message()))
            await call.read()
            call.cancel()

    async def run_all(self, actions: Sequence[Digest], *, at_once: int) -> float:
        """Run actions, so many at once; actions a second."""
        waiting = iter(actions)

        async def client() -> None:
            for action in waiting:
                await self.execute(action)

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(client())
        return len(actions) / (time.perf_counter() - start)

    async def run_paced(self, actions: Sequence[Digest], *, per_second: float) -> None:
        """Begin an action at each beat, whatever became of those before."""
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, action in enumerate(actions):
                await asyncio.sleep(start + number / per_second - time.perf_counter())
                group.create_task(self.execute(action))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not below so many percent of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
