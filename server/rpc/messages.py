"""Messages that are kept as blobs."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest
from server.blobstore.interface import BlobStore, read_all

_MAX_BYTES = 16 * 1024 * 1024
_M = TypeVar("_M", bound=Message)


async def read_message(store: BlobStore, digest: Digest, kind: type[_M]) -> _M:
    """Decode a blob. Raises BlobNotFound, InvalidRequest when it is no such message."""
    name = kind.DESCRIPTOR.name
    if digest.size > _MAX_BYTES:
        raise InvalidRequest(f"blob {digest} is too large for a message {name}")
    try:
        return kind.FromString(await read_all(store, digest))
    except DecodeError as error:
        raise InvalidRequest(f"blob {digest} is not a message {name}: {error}") from error
