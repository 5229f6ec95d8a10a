"""Results that are looked up before they are asked for."""

from __future__ import annotations

import asyncio

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.lookups import LookupsAhead

A, B, C = (Digest.of(name, DigestFunction.BLAKE3) for name in (b"a", b"b", b"c"))
RESULT = re_pb.ActionResult(stdout_raw=b"said")


class Server:
    """Has some results, fails for others, and knows what it was asked."""

    def __init__(self) -> None:
        self.has: dict[Digest, re_pb.ActionResult] = {}
        self.fails: set[Digest] = set()
        self.asked: list[Digest] = []
        self.now = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.ahead = LookupsAhead(self._look_up, lambda: self.now)

    async def _look_up(self, action: Digest) -> re_pb.ActionResult | None:
        self.asked.append(action)
        await self.may_answer.wait()
        if action in self.fails:
            raise Unavailable("it is away")
        return self.has.get(action)


async def test_what_is_asked_for_is_on_its_way() -> None:
    server = Server()
    server.has[B] = RESULT
    server.may_answer.clear()
    server.ahead.begin([A, B])
    server.ahead.begin([B, C])
    await asyncio.sleep(0)
    assert server.asked == [A, B, C], "all at once, each once"
    server.may_answer.set()
    assert await server.ahead.get(A) is None
    assert await server.ahead.get(B) == RESULT
    assert server.asked == [A, B, C]


async def test_how_long_an_answer_serves() -> None:
    server = Server()
    server.has[B] = RESULT
    server.ahead.begin([A, B])
    assert await server.ahead.get(A) is None
    server.now, server.has[A] = 30.0, RESULT
    assert await server.ahead.get(B) == RESULT
    assert server.asked == [A, B]
    assert await server.ahead.get(A) == RESULT, "it was made meanwhile"
    assert server.asked == [A, B, A]


async def test_what_failed_is_asked_again() -> None:
    server = Server()
    server.fails = {A}
    server.ahead.begin([A])
    with pytest.raises(Unavailable):
        await server.ahead.get(A)
    server.fails = set()
    assert await server.ahead.get(A) is None
    assert server.asked == [A, A, A]


async def test_an_end_while_it_asks() -> None:
    server = Server()
    server.may_answer.clear()
    before = asyncio.all_tasks()
    server.ahead.begin([A, B])
    await asyncio.sleep(0)
    server.ahead.close()
    await asyncio.gather(*(asyncio.all_tasks() - before), return_exceptions=True)
    assert asyncio.all_tasks() == before
