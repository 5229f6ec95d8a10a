"""Chunking agrees with published values and with the algorithms as they are described."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_apis.chunking import Chunker, FastCdc2020, RepMaxCdc
from remote_apis.chunking.gear import gear_hashes, gear_table
from remote_apis.errors import InvalidRequest

M64 = (1 << 64) - 1


def xorshift(length: int) -> bytes:
    """Bytes that anyone can make again, in any language."""
    state, out = 0x9E3779B97F4A7C15, bytearray()
    for _ in range(length):
        state ^= state << 13 & M64
        state ^= state >> 7
        state ^= state << 17 & M64
        out.append(state & 0xFF)
    return bytes(out)


def cut(chunker: Chunker, data: bytes, step: int = 10_000) -> list[bytes]:
    cutter = chunker.cutter()
    chunks: list[bytes] = []
    for start in range(0, len(data), step):
        chunks += cutter.feed(data[start : start + step])
    return [*chunks, *cutter.finish()]


def sizes(chunker: Chunker, data: bytes) -> list[int]:
    return [len(chunk) for chunk in cut(chunker, data)]


@pytest.mark.row(62)
def test_rep_max_cdc_cuts_where_others_do() -> None:
    # What two other implementations say about the same bytes.
    assert sizes(RepMaxCdc(4096, 4096), xorshift(96 * 1024)) == [
        *(7903, 5898, 4161, 8175, 6783, 7709, 6740, 5682, 5840, 5016, 7719, 7596, 6268, 6569),
        6245,
    ]


@pytest.mark.row(61)
@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, [5977, 4111, 5338, 2748, 4717, 4233, 4585, 4400, 6655, 4730, 4139, 4331, 5526, 6726,
             5418, 4782, 4461, 6038, 4263, 4106, 1020]),
        (666, [6786, 1339, 4405, 4625, 5060, 5055, 4406, 4192, 4955, 3128, 4271, 4747, 6898, 5634,
               4120, 4624, 1823, 7033, 4817, 4174, 5583, 629]),
    ],
)  # fmt: skip
def test_fast_cdc_cuts_where_it_always_did(seed: int, expected: list[int]) -> None:
    """Recorded from this code when it gave all cuts of fastcdc2020_test_vectors.txt.

    The picture that those are for is not here.
    """
    assert sizes(FastCdc2020(4096, seed), xorshift(96 * 1024)) == expected


@pytest.mark.row(61)
@pytest.mark.row(62)
def test_the_gear_table() -> None:
    table = gear_table()
    assert [int(table[0]), int(table[255])] == [0x3B5D3C7D207E37DC, 0xAABD2B2A451504E1]


@given(st.binary(min_size=1, max_size=300))
def test_gear_hashes_roll(data: bytes) -> None:
    expected, hash_ = [], 0
    for byte in data:
        hash_ = ((hash_ << 1) + int(gear_table()[byte])) & M64
        expected.append(hash_)
    assert [int(hash_) for hash_ in gear_hashes(data, gear_table())] == expected


def fast_cdc_by_definition(data: bytes, average: int, strict: int, loose: int) -> list[int]:
    table, out = [int(value) for value in gear_table()], []
    while data:
        length, hash_ = min(len(data), average * 4), 0
        if length > average // 4:
            for at in range(average // 4, length // 2 * 2):
                hash_ = ((hash_ << 1) + table[data[at]]) & M64
                if not hash_ & (strict if at < min(average, length) // 2 * 2 else loose):
                    length = at
                    break
        out.append(length)
        data = data[length:]
    return out


@pytest.mark.row(61)
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 30_000), st.randoms(use_true_random=False))
def test_fast_cdc_by_definition(length: int, source: random.Random) -> None:
    data = source.randbytes(length)
    expected = fast_cdc_by_definition(data, 1024, 0x0000D90103530000, 0x0000001800035300)
    assert sizes(FastCdc2020(1024), data) == expected


def rep_max_by_definition(data: bytes, minimum: int, horizon: int) -> list[int]:
    out = []
    hashes = [int(hash_) for hash_ in gear_hashes(data, gear_table())] if data else []
    start = 0
    while len(data) - start >= 2 * minimum:
        known = min(len(data) - start, 2 * minimum + horizon)
        window = hashes[start + minimum - 1 : start + known - minimum]
        while (best := window.index(max(window))) >= minimum:
            window = window[: best - minimum + 1]
        out.append(minimum + best)
        start += minimum + best
    return [*out, len(data) - start] if start < len(data) else out


@pytest.mark.row(62)
@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 20_000),
    st.sampled_from([(64, 0), (64, 1000), (500, 10), (1000, 8000)]),
    st.integers(1, 9000),
    st.randoms(use_true_random=False),
)
def test_rep_max_cdc_by_definition(
    length: int, parameters: tuple[int, int], step: int, source: random.Random
) -> None:
    data = source.randbytes(length)
    chunks = cut(RepMaxCdc(*parameters), data, step)
    assert [len(chunk) for chunk in chunks] == rep_max_by_definition(data, *parameters)
    assert b"".join(chunks) == data


@pytest.mark.row(61)
@pytest.mark.row(62)
@pytest.mark.parametrize("chunker", [FastCdc2020(1024), RepMaxCdc(1024, 8192), RepMaxCdc(64, 0)])
@pytest.mark.parametrize("data", [b"", b"x", bytes(50_000), b"ab" * 20_001])
def test_dull_data(chunker: Chunker, data: bytes) -> None:
    chunks = cut(chunker, data)
    assert b"".join(chunks) == data
    assert all(chunks)


@pytest.mark.row(62)
def test_without_a_horizon_all_chunks_are_equal() -> None:
    assert sizes(RepMaxCdc(100, 0), xorshift(1050)) == [100] * 9 + [150]


@pytest.mark.parametrize("step", [1, 100, 7777, 100_000])
def test_how_it_is_fed_does_not_matter(step: int) -> None:
    data = xorshift(30_000)
    for chunker in (FastCdc2020(1024), RepMaxCdc(1024, 8192)):
        assert cut(chunker, data, step) == cut(chunker, data, len(data))


@pytest.mark.row(61)
@pytest.mark.row(62)
def test_parameters_out_of_range() -> None:
    for average in (0, 1023, 1024 * 1024 + 1):
        with pytest.raises(InvalidRequest):
            FastCdc2020(average)
    for parameters in ((63, 1000), (64, -1)):
        with pytest.raises(InvalidRequest):
            RepMaxCdc(*parameters)
    assert FastCdc2020(1024 * 1024).max_bytes == 4 * 1024 * 1024
    assert FastCdc2020().average_bytes == 512 * 1024
    assert RepMaxCdc().min_bytes == 256 * 1024
    assert RepMaxCdc().horizon_bytes == 8 * RepMaxCdc().min_bytes
