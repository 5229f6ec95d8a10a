"""Blobs inside of ActionResults: taken out when stored, put in when wished for."""

from __future__ import annotations

from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import BlobStore, read_all, write_all

_MAX_MESSAGE_BYTES = 3 * 1024 * 1024
"""With everything inlined; gRPC clients take 4 MiB unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a client would like inside of the result (REAPI 2.12 GetActionResultRequest)."""

    stdout: bool = False
    stderr: bool = False
    files: frozenset[str] = frozenset()


async def store_inlined(
    result: re_pb.ActionResult, store: BlobStore, function: DigestFunction
) -> None:
    """Move inlined bytes into blobs of their own, so that a result refers to all it needs.

    The result has passed `check_result`.
    """
    for name in ("stdout", "stderr"):
        raw = getattr(result, f"{name}_raw")
        if raw:
            digest = Digest.of(raw, function)
            await write_all(store, digest, raw)
            getattr(result, f"{name}_digest").CopyFrom(digest.to_message())
            result.ClearField(f"{name}_raw")
    for file in result.output_files:
        if file.contents:
            await write_all(store, Digest.from_message(file.digest, function), file.contents)
            file.ClearField("contents")


async def fill_in(
    result: re_pb.ActionResult, wishes: Wishes, store: BlobStore, function: DigestFunction
) -> None:
    """Inline what was wished for while the message stays small, and nothing else."""
    for name in ("stdout_raw", "stderr_raw"):
        result.ClearField(name)
    for file in result.output_files:
        file.ClearField("contents")
    room = _MAX_MESSAGE_BYTES - result.ByteSize()
    for name, wished in (("stdout", wishes.stdout), ("stderr", wishes.stderr)):
        message = getattr(result, f"{name}_digest")
        if wished and message.hash and message.size_bytes <= room:
            setattr(result, f"{name}_raw", await _read(store, message, function))
            room -= message.size_bytes
    for file in result.output_files:
        if file.path in wishes.files and file.digest.size_bytes <= room:
            file.contents = await _read(store, file.digest, function)
            room -= file.digest.size_bytes


async def _read(store: BlobStore, message: re_pb.Digest, function: DigestFunction) -> bytes:
    try:
        return await read_all(store, Digest.from_message(message, function))
    except BlobNotFound:
        return b""  # inlining is never owed; reading the blob will tell the client
