"""Compression: what goes in comes out, however it is cut, and bombs do not go off."""

import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_apis.compression import Compressor, compress, decoder, decompress, encoder
from remote_apis.errors import InvalidRequest

BOTH = [Compressor.ZSTD, Compressor.DEFLATE]
MIB = 1024 * 1024


def cut(data: bytes, step: int) -> list[bytes]:
    return [data[start : start + step] for start in range(0, len(data), step)]


def decode(data: bytes, compressor: Compressor, step: int) -> bytes:
    stream = decoder(compressor)
    out = b"".join(piece for part in cut(data, step) for piece in stream.feed(part))
    stream.finish()
    return out


@pytest.mark.row(49)
@settings(max_examples=50, deadline=None)
@given(
    st.one_of(st.binary(max_size=5000), st.binary(max_size=50).map(lambda data: data * 300)),
    st.sampled_from(BOTH),
    st.integers(1, 3000),
    st.integers(1, 3000),
)
def test_round_trip(data: bytes, compressor: Compressor, feed: int, read: int) -> None:
    stream = encoder(compressor, len(data))
    compressed = b"".join(stream.feed(part) for part in cut(data, feed)) + stream.finish()
    assert decode(compressed, compressor, read) == data
    assert decompress(compress(data, compressor), compressor, len(data)) == data


def test_the_formats_are_those_of_the_world() -> None:
    data = b"some text " * 1000
    assert zstandard.ZstdDecompressor().decompress(compress(data, Compressor.ZSTD)) == data
    assert zlib.decompress(compress(data, Compressor.DEFLATE), wbits=-15) == data
    assert compress(data, Compressor.IDENTITY) == decompress(data, Compressor.IDENTITY, 1) == data


@pytest.mark.row(40)
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(BOTH), st.integers(1, 300))
def test_random_bytes_are_refused_or_decoded(
    data: bytes, compressor: Compressor, step: int
) -> None:
    try:
        decode(data, compressor, step)
    except InvalidRequest as error:
        assert compressor.label in str(error)


@pytest.mark.row(40)
@pytest.mark.parametrize("compressor", BOTH)
def test_truncated_and_prolonged_streams(compressor: Compressor) -> None:
    data = compress(b"some text " * 1000, compressor)
    for length in range(len(data)):
        with pytest.raises(InvalidRequest):
            decode(data[:length], compressor, 7)
    for step in (1, 7, 10_000):
        with pytest.raises(InvalidRequest, match="trailing"):
            decode(data + b"garbage", compressor, step)


@pytest.mark.row(40)
def test_frames_of_zstd() -> None:
    frames = [compress(bytes([n]) * 1000, Compressor.ZSTD) for n in range(5)]
    skippable = bytes.fromhex("502a4d18") + (5).to_bytes(4, "little") + b"12345"
    whole = b"".join([frames[0], skippable, *frames[1:], compress(b"", Compressor.ZSTD)])
    for step in (1, 100, 10_000):
        assert decode(whole, Compressor.ZSTD, step) == b"".join(bytes([n]) * 1000 for n in range(5))


@pytest.mark.row(40)
@pytest.mark.parametrize("compressor", BOTH)
def test_a_bomb_takes_little_memory(compressor: Compressor) -> None:
    if compressor is Compressor.ZSTD:
        bomb = zstandard.ZstdCompressor().compress(bytes(512 * MIB))
    else:
        bomb = compress(bytes(512 * MIB), compressor)
    tracemalloc.start()
    with pytest.raises(InvalidRequest, match="more than"):
        decompress(bomb, compressor, 1000)
    pieces = decoder(compressor).feed(bomb)
    assert sum(len(next(pieces)) for _ in range(20)) > 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * MIB


def test_high_levels_and_large_windows_of_zstd() -> None:
    data = bytes(range(256)) * 20_000
    stream = zstandard.ZstdCompressor(level=22).compressobj()
    compressed = stream.compress(data) + stream.flush()
    assert decode(compressed, Compressor.ZSTD, 1000) == data
