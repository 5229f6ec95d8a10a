"""Workers that lie about results, or report what is not theirs: nobody gets a wrong result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from google.rpc import code_pb2
from rounds import chance, rounds

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from server.actioncache.interface import ActionKey
from server.scheduler.settings import SchedulerSettings
from tests.rpc.execution_server import (
    SHA256,
    ExecutionServer,
    ScriptedWorker,
    execution_server,
    response_of,
)

HASTY = SchedulerSettings(busy_interval=0.2, poll_interval=0.2, worker_lost_after=0.6)
ABSENT = Digest.of(b"nobody has this", SHA256).to_message()
SHORT = re_pb.Digest(hash="00", size_bytes=2)


def file(
    path: str = "out", digest: re_pb.Digest = ABSENT, contents: bytes = b""
) -> re_pb.OutputFile:
    return re_pb.OutputFile(path=path, digest=digest, contents=contents)


def directory(**digests: re_pb.Digest) -> re_pb.OutputDirectory:
    return re_pb.OutputDirectory(path="dir", **digests)  # type: ignore[arg-type]


Result = re_pb.ActionResult
LIES: dict[str, Callable[[re_pb.Digest], Result]] = {
    "an absent file": lambda _: Result(output_files=[file()]),
    "an absent stdout": lambda _: Result(stdout_digest=ABSENT),
    "an absent tree": lambda _: Result(output_directories=[directory(tree_digest=ABSENT)]),
    "an absent directory": lambda _: Result(
        output_directories=[directory(root_directory_digest=ABSENT)]
    ),
    "a hash that is none": lambda _: Result(output_files=[file(digest=SHORT)]),
    "a digest of another size": lambda there: Result(
        output_files=[file(digest=re_pb.Digest(hash=there.hash, size_bytes=there.size_bytes + 1))]
    ),
    "contents of another blob": lambda there: Result(
        output_files=[file(digest=there, contents=b"something else")]
    ),
    "a stdout of another blob": lambda there: Result(stdout_digest=there, stdout_raw=b"else"),
    "a tree that is none": lambda there: Result(output_directories=[directory(tree_digest=there)]),
    "a path out of the root": lambda there: Result(output_files=[file("../../etc/x", there)]),
    "an absolute path": lambda there: Result(output_files=[file("/etc/x", there)]),
    "a directory out of the root": lambda there: Result(
        output_directories=[re_pb.OutputDirectory(path="..", root_directory_digest=there)]
    ),
    "a path twice": lambda there: Result(output_files=[file(digest=there), file(digest=there)]),
    "a link to nowhere": lambda _: Result(output_symlinks=[re_pb.OutputSymlink(path="link")]),
}


async def accept(
    server: ExecutionServer, salt: bytes = b""
) -> tuple[Digest, asyncio.Task[re_pb.ExecuteResponse]]:
    """An operation that is accepted, and what is to become of it."""
    digest = await server.put_action(action=re_pb.Action(salt=salt))
    call = server.execute(digest)
    await anext(aiter(call))

    async def outcome() -> re_pb.ExecuteResponse:
        return response_of([operation async for operation in call][-1])

    return digest, asyncio.create_task(outcome())


async def cached(server: ExecutionServer, digest: Digest) -> re_pb.ActionResult | None:
    return await server.cache.get(ActionKey("", digest))


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_not_believed_and_another_worker_is_asked(lie: str) -> None:
    async with execution_server() as server:
        there = (await server.put(b"\xff is no Tree")).to_message()
        digest, outcome = await accept(server)
        liar = ScriptedWorker(server, worker_id={"worker": "liar"})
        lying = re_pb.ExecuteResponse(result=LIES[lie](there))
        await liar.completed(await liar.take(), lying)
        assert await cached(server, digest) is None
        honest = re_pb.ExecuteResponse(result=Result(output_files=[file(digest=there)]))
        await ScriptedWorker(server, worker_id={"worker": "honest"}).serve(honest)
        response = await asyncio.wait_for(outcome, 30)
        assert response.status.code == 0
        assert response.result.execution_metadata.worker == "honest"
        result = await cached(server, digest)
        assert result is not None
        assert result.output_files[0].digest == there


async def test_a_worker_that_only_lies_fails_the_operation_with_a_reason() -> None:
    async with execution_server() as server:
        digest, outcome = await accept(server)
        liar = ScriptedWorker(server, worker_id={"worker": "liar"})
        await liar.serve(re_pb.ExecuteResponse(result=Result(output_files=[file()])), times=3)
        response = await asyncio.wait_for(outcome, 30)
        assert response.status.code == code_pb2.DATA_LOSS
        assert "liar" in response.status.message
        assert not response.result.output_files
        assert await cached(server, digest) is None


@pytest.mark.parametrize("code", [-1, 17, 2**31 - 1])
async def test_a_status_code_that_does_not_exist(code: int) -> None:
    async with execution_server() as server:
        _, outcome = await accept(server)
        lying = re_pb.ExecuteResponse()
        lying.status.code = code
        await ScriptedWorker(server).serve(lying, times=3)
        response = await asyncio.wait_for(outcome, 30)
        assert response.status.code == code_pb2.INTERNAL


async def test_nothing_at_all_is_no_result() -> None:
    async with execution_server() as server:
        digest, outcome = await accept(server)
        worker = ScriptedWorker(server)
        work = await worker.take()
        request = rw_pb.SynchronizeRequest(worker_id={"worker": "w1"}, prefer_being_idle=True)
        executing = request.current_state.executing
        executing.action_digest.CopyFrom(work.action_digest)
        executing.completed.SetInParent()
        await server.queue.Synchronize(request)
        assert await cached(server, digest) is None
        await worker.serve()
        assert (await asyncio.wait_for(outcome, 30)).status.code == 0


async def test_a_result_for_another_action_counts_for_neither() -> None:
    async with execution_server() as server:
        ours, outcome = await accept(server, b"ours")
        worker, other = ScriptedWorker(server), ScriptedWorker(server, worker_id={"worker": "w2"})
        work = await worker.take()
        theirs, other_outcome = await accept(server, b"theirs")
        other_work = await other.take()
        assert other_work.action_digest == theirs.to_message()
        lie = re_pb.ExecuteResponse(result=Result(stdout_raw=b"a lie"))
        told = await worker.completed(other_work, lie, prefers_idle=False)
        # It hears again what it is to do.
        assert told.desired_state.executing.action_digest == ours.to_message()
        for digest in (ours, theirs):
            assert await cached(server, digest) is None
        for each, lease in ((worker, work), (other, other_work)):
            said = re_pb.ExecuteResponse(
                result=Result(stdout_raw=lease.action_digest.hash.encode())
            )
            await each.completed(lease, said)
        for digest, task in ((ours, outcome), (theirs, other_outcome)):
            response = await asyncio.wait_for(task, 30)
            assert response.result.stdout_raw == digest.hash.encode()


async def test_a_second_report_changes_nothing() -> None:
    async with execution_server() as server:
        digest, outcome = await accept(server)
        worker = ScriptedWorker(server)
        work = await worker.take()
        first = re_pb.ExecuteResponse(result=Result(stdout_raw=b"first"))
        await worker.completed(work, first)
        again = re_pb.ExecuteResponse(result=Result(stdout_raw=b"again"))
        for _ in range(2):
            told = await worker.completed(work, again)
            assert told.desired_state.WhichOneof("worker_state") == "idle"
        response = await asyncio.wait_for(outcome, 30)
        assert response.result.stdout_raw == b"first"
        result = await cached(server, digest)
        assert result is not None
        assert result.stdout_raw == b"first"


async def test_a_report_for_a_lease_that_went_to_another_worker() -> None:
    async with execution_server(settings=HASTY) as server:
        digest, outcome = await accept(server)
        slow = ScriptedWorker(server, worker_id={"worker": "slow"})
        work = await slow.take()
        quick = ScriptedWorker(server, worker_id={"worker": "quick"})
        taken = await asyncio.wait_for(quick.take(), 30)
        assert taken.action_digest == work.action_digest
        late = re_pb.ExecuteResponse(result=Result(stdout_raw=b"late"))
        told = await slow.completed(work, late)
        assert told.desired_state.WhichOneof("worker_state") == "idle"
        assert await cached(server, digest) is None
        right = re_pb.ExecuteResponse(result=Result(stdout_raw=b"right"))
        await quick.completed(taken, right)
        response = await asyncio.wait_for(outcome, 30)
        assert response.result.stdout_raw == b"right"
        assert response.result.execution_metadata.worker == "quick"
        # And then it serves again.
        _, another = await accept(server, b"another")
        await slow.serve()
        assert (await asyncio.wait_for(another, 30)).status.code == 0


async def test_a_report_from_an_earlier_life_of_the_same_action() -> None:
    """queued_timestamp tells two executions of one action apart."""
    async with execution_server() as server:
        _, outcome = await accept(server)
        worker = ScriptedWorker(server)
        old = await worker.take()
        failed = re_pb.ExecuteResponse(result=Result(exit_code=1))
        await worker.completed(old, failed)
        assert (await asyncio.wait_for(outcome, 30)).result.exit_code == 1
        digest, outcome = await accept(server)
        new = await worker.take()
        assert new.action_digest == old.action_digest
        assert new.queued_timestamp != old.queued_timestamp
        stale = re_pb.ExecuteResponse(result=Result(stdout_raw=b"stale"))
        await worker.completed(old, stale, prefers_idle=False)
        assert await cached(server, digest) is None
        fresh = re_pb.ExecuteResponse(result=Result(stdout_raw=b"fresh"))
        await worker.completed(new, fresh)
        assert (await asyncio.wait_for(outcome, 30)).result.stdout_raw == b"fresh"


async def test_two_workers_with_one_id() -> None:
    """They take each other's leases: all operations end, each with a result of its own."""
    dice = chance()
    async with execution_server() as server:
        operations = [await accept(server, b"%d" % n) for n in range(min(rounds(20), 50))]
        twins = [asyncio.create_task(_twin(server, dice.random() * 0.01)) for _ in range(2)]
        try:
            for digest, outcome in operations:
                response = await asyncio.wait_for(outcome, 60)
                if response.status.code == 0:
                    assert response.result.stdout_raw == digest.hash.encode()
                else:
                    # Given up in the end, and saying why.
                    assert "w1" in response.status.message
                    assert await cached(server, digest) is None
        finally:
            for twin in twins:
                twin.cancel()
            await asyncio.wait(twins)


async def _twin(server: ExecutionServer, seconds: float) -> None:
    worker = ScriptedWorker(server)
    while True:
        work = await worker.take()
        await asyncio.sleep(seconds)
        said = re_pb.ExecuteResponse(result=Result(stdout_raw=work.action_digest.hash.encode()))
        await worker.completed(work, said)
