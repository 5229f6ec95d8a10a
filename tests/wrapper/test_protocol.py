"""The daemon's end of the wire between shim and daemon."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrapper.daemon.protocol import (
    BadCall,
    Call,
    LocalRun,
    Reply,
    WatchedRun,
    decode_call,
    read_call,
)

TEXTS = st.binary(max_size=20).map(lambda b: os.fsdecode(b.replace(b"\0", b"")))
NAMES = TEXTS.map(lambda text: text.replace("=", ""))


def encode(*strings: str | bytes) -> bytes:
    return b"".join((s if isinstance(s, bytes) else os.fsencode(s)) + b"\0" for s in strings)


@given(st.integers(0, 1 << 22), TEXTS, st.lists(TEXTS, min_size=1), st.dictionaries(NAMES, TEXTS))
def test_a_call_is_read_as_it_was_sent(
    parent: int, cwd: str, argv: list[str], environment: dict[str, str]
) -> None:
    pairs = [f"{name}={value}" for name, value in environment.items()]
    data = encode("2", str(parent), cwd, str(len(argv)), *argv, *pairs)
    assert decode_call(data) == Call(
        parent=parent, cwd=cwd, argv=tuple(argv), environment=environment
    )


def test_a_call_of_a_launcher() -> None:
    call = decode_call(encode("S2", "1", "/", "2", "/w/.a.real", "/w", "OUT_DIR=/w/out"))
    assert (call.kind, call.argv) == ("script", ("/w/.a.real", "/w"))
    assert decode_call(encode("2", "1", "/", "1", "rustc")).kind == "rustc"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, b"2\0" + data, encode("2", "7", "/", "1") + data):
        try:
            call = decode_call(candidate)
        except BadCall:
            continue
        assert call.argv


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode("1", "1", "/", "1", "rustc"),
        encode("2", "1", "/", "1", "rustc")[:-1],
        encode("2", "x", "/", "1", "rustc"),
        encode("2", "1", "/", "x", "rustc"),
        encode("2", "1", "/", "0", "A=1"),
        encode("2", "1", "/", "-1", "rustc"),
        encode("2", "1", "/", "3", "rustc", "-vV"),
    ],
)
def test_what_is_no_call(data: bytes) -> None:
    with pytest.raises(BadCall):
        decode_call(data)


def test_entries_of_the_environment_without_a_value_are_left_out() -> None:
    call = decode_call(encode("2", "1", "/", "1", "rustc", "ODD", "A=b=c"))
    assert call.environment == {"A": "b=c"}


async def call_of(data: bytes) -> Call:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await read_call(reader)


async def test_reading_from_a_stream() -> None:
    data = encode("2", "1", "/", "1", "rustc")
    call = await call_of(struct.pack("<I", len(data)) + data + b"more")
    assert call.argv == ("rustc",)
    with pytest.raises(asyncio.IncompleteReadError):
        await call_of(struct.pack("<I", len(data)) + data[:-1])
    with pytest.raises(asyncio.IncompleteReadError):
        await call_of(b"\1")
    with pytest.raises(BadCall, match="bytes"):
        await call_of(b"\xff\xff\xff\xff")


@asynccontextmanager
async def replying() -> AsyncIterator[
    tuple[Reply, asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamWriter]
]:
    """A Reply, and the shim's end of its connection."""
    connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await connected.put((reader, writer))

    server = await asyncio.start_server(on, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        shim_reader, shim_writer = await asyncio.open_connection(host, port)
        reader, writer = await connected.get()
        try:
            yield Reply(reader, writer), shim_reader, shim_writer, writer
        finally:
            for end in (writer, shim_writer):
                end.close()
                await end.wait_closed()


async def frames(reader: asyncio.StreamReader, count: int) -> list[tuple[bytes, bytes]]:
    found = []
    for _ in range(count):
        kind, size = struct.unpack("<cI", await reader.readexactly(5))
        found.append((kind, await reader.readexactly(size)))
    return found


async def test_frames_of_a_result() -> None:
    async with replying() as (reply, shim, _, _writer):
        assert not reply.is_ended
        reply.tell_user("a word")
        assert not reply.is_ended
        reply.finish(stdout=b"out", stderr=b"err", exit_code=1)
        assert reply.is_ended
        assert await frames(shim, 4) == [
            (b"W", b"a word\n"),
            (b"O", b"out"),
            (b"E", b"err"),
            (b"X", struct.pack("<I", 1)),
        ]


async def test_leaving_it_to_rustc() -> None:
    async with replying() as (reply, shim, _, _writer):
        reply.exec_rustc()
        assert reply.is_ended
        assert await frames(shim, 1) == [(b"L", b"")]


async def test_a_run() -> None:
    odd = os.fsdecode(b"/w\xff")
    async with replying() as (reply, shim, back, _writer), asyncio.timeout(30):
        running = asyncio.ensure_future(reply.run(["rustc", odd], [("/a", "/b"), ("/c", "")]))
        ((kind, payload),) = await frames(shim, 1)
        assert kind == b"T"
        assert payload == struct.pack("<I", 2) + encode("/a", "/b", "/c", "", "rustc", odd)
        for piece in (b"one\nt", b"wo\n", b""):
            back.write(b"E" + struct.pack("<I", len(piece)) + piece)
        back.write(b"X" + struct.pack("<II", 4, 256))
        assert await running == LocalRun(status=256, stderr=b"one\ntwo\n")


async def test_a_watched_run() -> None:
    async with replying() as (reply, shim, back, _writer), asyncio.timeout(30):
        running = asyncio.ensure_future(reply.watch({"A": "1=2", "B": ""}))
        assert await frames(shim, 1) == [(b"R", encode("A=1=2", "B="))]
        assert reply.is_ended
        for kind, piece in (
            (b"O", b"a"),
            (b"A", b"o/x\0"),
            (b"E", b"b"),
            (b"O", b"c"),
            (b"A", b""),
        ):
            back.write(kind + struct.pack("<I", len(piece)) + piece)
        back.write(b"X" + struct.pack("<II", 4, 9))
        assert await running == WatchedRun(status=9, stdout=b"ac", stderr=b"b", accesses=b"o/x\0")
        reply.let_stand()
        assert await frames(shim, 1) == [(b"X", struct.pack("<I", 0))]


async def test_a_shim_that_is_killed_ends_the_run() -> None:
    async with replying() as (reply, shim, back, _writer), asyncio.timeout(30):
        running = asyncio.ensure_future(reply.run(["rustc"], []))
        await frames(shim, 1)
        back.write(b"E\3\0\0\0on")
        back.close()
        with pytest.raises(asyncio.IncompleteReadError):
            await running
