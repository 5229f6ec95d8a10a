"""Inputs of operations that wait are looked at, so that nothing evicts them."""

from __future__ import annotations

import asyncio

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import write_all
from server.blobstore.memory import MemoryBlobStore
from server.rpc.input_keeper import InputKeeper
from server.scheduler.driver import Scheduler
from server.scheduler.ports import MemoryRepository, Outcome
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import ExecuteSpec, Requirement

SHA256 = DigestFunction.SHA256


class Watched(MemoryBlobStore):
    """A store that remembers what was vouched for or read."""

    def __init__(self) -> None:
        super().__init__()
        self.used: set[Digest] = set()

    async def find_missing(self, digests):  # type: ignore[no-untyped-def]
        self.used.update(digests)
        return await super().find_missing(digests)

    def open_read(self, digest, offset=0, limit=0):  # type: ignore[no-untyped-def]
        self.used.add(digest)
        return super().open_read(digest, offset, limit)


async def put(store: MemoryBlobStore, data: bytes) -> Digest:
    digest = Digest.of(data, SHA256)
    await write_all(store, digest, data)
    return digest


async def keep(outcome: Outcome) -> bytes:
    return outcome.response


async def test_everything_that_a_waiting_action_needs_is_looked_at() -> None:
    store = Watched()
    file = await put(store, b"input")
    inner = re_pb.Directory()
    inner.files.add(name="f", digest=file.to_message())
    below = await put(store, inner.SerializeToString())
    outer = re_pb.Directory()
    outer.directories.add(name="d", digest=below.to_message())
    root = await put(store, outer.SerializeToString())
    command = await put(store, re_pb.Command(arguments=["true"]).SerializeToString())
    action = re_pb.Action(
        command_digest=command.to_message(), input_root_digest=root.to_message()
    ).SerializeToString()
    digest = await put(store, action)
    scheduler = Scheduler(
        repository=MemoryRepository(),
        complete=keep,
        settings=SchedulerSettings(no_worker_grace=60.0),
    )

    journal = asyncio.create_task(scheduler.run())
    await scheduler.execute(
        ExecuteSpec(
            requirement=Requirement(instance="", platform=()),
            packed_digest=digest.packed(),
            action=action,
        )
    )
    assert await InputKeeper(scheduler, store).look() == 1
    assert store.used >= {file, below, root, command, digest}
    await scheduler.close()
    await journal
