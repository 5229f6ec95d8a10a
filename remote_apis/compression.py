"""The compressors of REAPI 2.12 as streams that neither side can use to exhaust memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Protocol

import zstandard

from remote_apis.errors import InvalidRequest

_ZSTD_SLICE = 256
"""Input bytes decompressed at a time. zstd cannot be told to stop: it makes at most 128 KiB of
every 4 bytes of input, so that this bounds what one step can make to 8 MiB."""
_DEFLATE_PIECE = 1024 * 1024
_MAX_ZSTD_WINDOW = 128 * 1024 * 1024
_LEVEL = 1
_WORTH_COMPRESSING = 1024


class Compressor(Enum):
    """An encoding of blobs in transfer: its number on the wire and its name in resource names.

    BROTLI exists on the wire and is not offered by this project.
    """

    IDENTITY = 0
    ZSTD = 1
    DEFLATE = 2

    @property
    def label(self) -> str:
        """The name in resource names."""
        return self.name.lower()


BY_NUMBER = {compressor.value: compressor for compressor in Compressor}
BY_LABEL = {compressor.label: compressor for compressor in Compressor}


class Encoder(Protocol):
    """Turns a blob's bytes into their compressed form."""

    def feed(self, data: bytes) -> bytes:
        """What can be sent after these bytes; possibly nothing yet."""
        ...

    def finish(self) -> bytes:
        """The rest. Like `feed` raises InvalidRequest when it is not of the size announced."""
        ...


class Decoder(Protocol):
    """Turns the compressed form back, in pieces of bounded size.

    `feed` and `finish` raise InvalidRequest for what is not a complete stream and nothing else.
    """

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The blob's bytes that these bytes make; made as the iterator advances."""
        ...

    def finish(self) -> None:
        """Check that the stream ended here."""
        ...


def encoder(compressor: Compressor, size: int) -> Encoder:
    """An encoder for exactly `size` bytes. Not for IDENTITY."""
    if compressor is Compressor.ZSTD:
        return _ZstdEncoder(size)
    assert compressor is Compressor.DEFLATE
    return _DeflateEncoder()


def decoder(compressor: Compressor) -> Decoder:
    """A decoder for one blob. Not for IDENTITY."""
    if compressor is Compressor.ZSTD:
        return _ZstdDecoder()
    assert compressor is Compressor.DEFLATE
    return _DeflateDecoder()


def compress(data: bytes, compressor: Compressor) -> bytes:
    """Bytes in hand in compressed form."""
    if compressor is Compressor.IDENTITY:
        return data
    stream = encoder(compressor, len(data))
    return stream.feed(data) + stream.finish()


def compress_if_smaller(data: bytes, compressor: Compressor) -> tuple[bytes, Compressor]:
    """The shorter of the bytes and their compressed form, and which it is."""
    if len(data) >= _WORTH_COMPRESSING:
        compressed = compress(data, compressor)
        if len(compressed) < len(data):
            return compressed, compressor
    return data, Compressor.IDENTITY


def decompress(data: bytes, compressor: Compressor, size: int) -> bytes:
    """Bytes in hand decompressed. Raises InvalidRequest if they are not `size` bytes then."""
    if compressor is Compressor.IDENTITY:
        return data
    stream = decoder(compressor)
    out = bytearray()
    for piece in stream.feed(data):
        out += piece
        if len(out) > size:
            raise InvalidRequest(f"{compressor.label} data holds more than the {size} bytes named")
    stream.finish()
    if len(out) != size:
        raise InvalidRequest(f"{compressor.label} data holds {len(out)} bytes, not {size}")
    return bytes(out)


class _ZstdEncoder:
    def __init__(self, size: int) -> None:
        self._stream = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=size)

    def feed(self, data: bytes) -> bytes:
        with self._checked():
            return self._stream.compress(data)

    def finish(self) -> bytes:
        with self._checked():
            return self._stream.flush()

    @staticmethod
    @contextmanager
    def _checked() -> Iterator[None]:
        try:
            yield
        except zstandard.ZstdError as error:
            raise InvalidRequest(f"the data is not of the size announced: {error}") from error


class _DeflateEncoder:
    def __init__(self) -> None:
        self._stream = zlib.compressobj(level=_LEVEL, wbits=-zlib.MAX_WBITS)

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def finish(self) -> bytes:
        return self._stream.flush()


class _ZstdDecoder:
    """Frames one after the other are one stream (RFC 8878, 3)."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
        self._frame = self._decompressor.decompressobj()
        self._between_frames = False
        self._ended_well = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        view = memoryview(data)
        for at in range(0, len(view), _ZSTD_SLICE):
            rest = bytes(view[at : at + _ZSTD_SLICE])
            while rest:
                if self._between_frames:
                    self._frame = self._decompressor.decompressobj()
                    self._between_frames = False
                try:
                    out = self._frame.decompress(rest)
                except zstandard.ZstdError as error:
                    what = "trailing bytes" if self._ended_well else "damaged"
                    raise InvalidRequest(f"zstd data is {what}: {error}") from error
                rest = b""
                if self._frame.eof:
                    self._between_frames = self._ended_well = True
                    rest = self._frame.unused_data
                if out:
                    yield out

    def finish(self) -> None:
        if not self._between_frames:
            raise InvalidRequest("zstd data ends in the middle of a frame")


class _DeflateDecoder:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                raise InvalidRequest("deflate data is followed by trailing bytes")
            try:
                out = self._stream.decompress(data, _DEFLATE_PIECE)
            except zlib.error as error:
                raise InvalidRequest(f"deflate data is damaged: {error}") from error
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if out:
                yield out

    def finish(self) -> None:
        if not self._stream.eof:
            raise InvalidRequest("deflate data ends before its last block")
