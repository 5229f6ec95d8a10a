"""QueryWriteStatus, and uploads that are taken up where they broke off."""

import asyncio
from typing import Any

import grpc
import pytest

from remote_apis.compression import Compressor
from server.blobstore.interface import read_all
from tests.rpc.uploading import (
    COMPRESSORS,
    DATA,
    DIGEST,
    break_off,
    compress,
    is_there,
    messages,
    name_of,
    refusal,
    status,
    write,
)


@pytest.mark.row(43)
async def test_the_status_of_an_unknown_upload(storage: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await status(storage, name_of())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.row(43)
async def test_the_status_of_a_finished_upload(storage: Any) -> None:
    name = name_of()
    await write(storage, messages(name, DATA))
    assert await status(storage, name) == (len(DATA), True)


@pytest.mark.row(43)
@pytest.mark.row(44)
async def test_resuming(storage: Any) -> None:
    name = name_of()
    await break_off(storage, name, DATA[:800_000])
    assert await status(storage, name) == (800_000, False)
    await break_off(storage, name, DATA[800_000:1_000_000], offset=800_000)
    assert await status(storage, name) == (1_000_000, False)
    assert not await is_there(storage)
    rest = messages(name, DATA[1_000_000:], offset=1_000_000)
    assert await write(storage, rest) == len(DATA)
    assert await read_all(storage.store, DIGEST) == DATA
    assert await status(storage, name) == (len(DATA), True)


@pytest.mark.row(44)
async def test_resuming_after_a_half_close(storage: Any) -> None:
    name = name_of()
    await refusal(storage, messages(name, DATA[:800_000], finish=False))
    assert await status(storage, name) == (800_000, False)
    assert await write(storage, messages(name, DATA[800_000:], offset=800_000)) == len(DATA)


@pytest.mark.row(41)
@pytest.mark.row(44)
@pytest.mark.parametrize("compressor", COMPRESSORS)
async def test_resuming_a_compressed_upload(storage: Any, compressor: Compressor) -> None:
    name = name_of(compressor=compressor)
    first = compress(DATA[:800_000], compressor)
    await refusal(storage, messages(name, first, finish=False))
    committed, complete = await status(storage, name)
    assert (committed, complete) == (800_000, False)
    rest = compress(DATA[committed:], compressor)
    requests = messages(name, rest, offset=committed)
    assert await write(storage, requests) == committed + len(rest)
    assert await read_all(storage.store, DIGEST) == DATA


@pytest.mark.row(30)
async def test_resuming_at_another_offset_is_refused(storage: Any) -> None:
    name = name_of()
    await break_off(storage, name, DATA[:800_000])
    for offset in (1, 799_999, 800_001):
        answer = await refusal(storage, messages(name, DATA[offset:], offset=offset))
        assert "800000" in answer
    assert await status(storage, name) == (800_000, False)


@pytest.mark.row(44)
async def test_beginning_anew_is_allowed(storage: Any) -> None:
    name = name_of()
    await break_off(storage, name, DATA[:800_000])
    assert await write(storage, messages(name, DATA)) == len(DATA)
    assert await read_all(storage.store, DIGEST) == DATA


@pytest.mark.row(43)
async def test_the_committed_size_never_decreases(storage: Any) -> None:
    name = name_of()
    await break_off(storage, name, DATA[:800_000])
    call = storage.bytes.Write()
    await call.write(messages(name, DATA[:100], finish=False)[0])
    await asyncio.sleep(0.1)
    assert await status(storage, name) == (800_000, False)
    call.cancel()
    assert await status(storage, name) == (800_000, False)
    assert await write(storage, messages(name, DATA[800_000:], offset=800_000)) == len(DATA)
