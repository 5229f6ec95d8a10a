"""What is fuzzed: functions of bytes that may do anything but fail in an unforeseen way.

Hypothesis runs them with every test run; `python -m tests.fuzz.run_atheris NAME` runs one of them
for as long as one likes, led by coverage.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError, Message

from remote_apis import compression
from remote_apis.chunking import Chunker, FastCdc2020, RepMaxCdc
from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import DistbuildError, InvalidRequest
from remote_apis.merkle import check_directory, directories_of_tree, parse_directory
from remote_apis.resource_names import parse_read_name, parse_write_name
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from server.actioncache.completeness import CompletenessCheckingActionCache
from server.actioncache.memory import MemoryActionCache
from server.blobstore.interface import write_all
from server.blobstore.memory import MemoryBlobStore
from server.rpc.action_cache import ActionCacheServicer
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.cas import CasServicer
from server.rpc.result_checks import check_result
from server.rpc.terms import Terms

Target = Callable[[bytes], None]
SHA256 = DigestFunction.SHA256
DATA = b"the one blob that is there"
DIGEST = Digest.of(DATA, SHA256).to_message()
_MAX_OUTPUT = 32 * 1024 * 1024


def resource_names(data: bytes) -> None:
    """What can be parsed formats to a name that means the same."""
    name = data.decode("utf-8", "replace")
    with contextlib.suppress(InvalidRequest):
        assert parse_read_name(name).to_read() == name
    with contextlib.suppress(InvalidRequest):
        parsed = parse_write_name(name)
        assert parse_write_name(parsed.blob.to_write(parsed.upload_id)) == parsed


def _decode(data: bytes, compressor: Compressor) -> None:
    decoder = compression.decoder(compressor)
    step = data[0] + 1 if data else 1
    made = 0
    with contextlib.suppress(InvalidRequest):
        for start in range(1, len(data), step):
            for piece in decoder.feed(data[start : start + step]):
                made += len(piece)
                if made > _MAX_OUTPUT:
                    return
        decoder.finish()


def zstd(data: bytes) -> None:
    """A stream in pieces whose size the first byte tells."""
    _decode(data, Compressor.ZSTD)


def deflate(data: bytes) -> None:
    """The same."""
    _decode(data, Compressor.DEFLATE)


def directory(data: bytes) -> None:
    """A Directory message."""
    with contextlib.suppress(InvalidRequest):
        check_directory(parse_directory(data), SHA256)


def tree(data: bytes) -> None:
    """A Tree read piece by piece holds what the whole message does."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    async def read() -> int:
        return len([each async for each in directories_of_tree(pieces())])

    with contextlib.suppress(InvalidRequest):
        count = asyncio.run(read())
        message = re_pb.Tree.FromString(data)
        assert count >= len(message.children) + message.HasField("root")


def action_result(data: bytes) -> None:
    """An ActionResult as a client may upload it."""
    with contextlib.suppress(InvalidRequest, DecodeError):
        check_result(re_pb.ActionResult.FromString(data), SHA256)


def _cut(data: bytes, chunker: Chunker) -> None:
    cutter = chunker.cutter()
    chunks = [*cutter.feed(data), *cutter.finish()]
    assert b"".join(chunks) == data
    assert all(chunks)


def chunking(data: bytes) -> None:
    """Both chunkers lose nothing."""
    _cut(data, FastCdc2020(1024))
    _cut(data, RepMaxCdc(64, 300))


class _Context:
    def invocation_metadata(self) -> tuple[()]:
        return ()


async def _finished(answer: Any) -> None:
    if hasattr(answer, "__aiter__"):
        async for _ in answer:
            pass
    else:
        await answer


def _service(kind: type[Message], method: Callable[[Any, Any, Any], Any]) -> Target:
    """A target that calls one method of the services with a decoded message."""

    async def call(message: Message) -> None:
        store, terms = MemoryBlobStore(), Terms()
        await write_all(store, Digest.of(DATA, SHA256), DATA)
        cas = CasServicer(store=store, terms=terms, chunkers=(FastCdc2020(1024), RepMaxCdc(64, 0)))
        cache = ActionCacheServicer(
            cache=CompletenessCheckingActionCache(MemoryActionCache(), store),
            store=store,
            terms=terms,
            requires_action=False,
        )
        streams = ByteStreamServicer(store=store, terms=terms)
        services = {"cas": cas, "cache": cache, "streams": streams}
        try:
            await _finished(method(services, message, _Context()))
        finally:
            await streams.close()

    def target(data: bytes) -> None:
        with contextlib.suppress(DistbuildError, DecodeError):
            asyncio.run(call(kind.FromString(data)))

    return target


async def _messages(first: bs_pb.WriteRequest) -> AsyncIterator[bs_pb.WriteRequest]:
    yield first


TARGETS: dict[str, Target] = {
    "resource_names": resource_names,
    "zstd": zstd,
    "deflate": deflate,
    "directory": directory,
    "tree": tree,
    "action_result": action_result,
    "chunking": chunking,
    "find_missing": _service(
        re_pb.FindMissingBlobsRequest, lambda s, m, c: s["cas"].FindMissingBlobs(m, c)
    ),
    "batch_update": _service(
        re_pb.BatchUpdateBlobsRequest, lambda s, m, c: s["cas"].BatchUpdateBlobs(m, c)
    ),
    "batch_read": _service(
        re_pb.BatchReadBlobsRequest, lambda s, m, c: s["cas"].BatchReadBlobs(m, c)
    ),
    "get_tree": _service(re_pb.GetTreeRequest, lambda s, m, c: s["cas"].GetTree(m, c)),
    "split": _service(re_pb.SplitBlobRequest, lambda s, m, c: s["cas"].SplitBlob(m, c)),
    "splice": _service(re_pb.SpliceBlobRequest, lambda s, m, c: s["cas"].SpliceBlob(m, c)),
    "get_result": _service(
        re_pb.GetActionResultRequest, lambda s, m, c: s["cache"].GetActionResult(m, c)
    ),
    "update_result": _service(
        re_pb.UpdateActionResultRequest, lambda s, m, c: s["cache"].UpdateActionResult(m, c)
    ),
    "read": _service(bs_pb.ReadRequest, lambda s, m, c: s["streams"].Read(m, c)),
    "write": _service(bs_pb.WriteRequest, lambda s, m, c: s["streams"].Write(_messages(m), c)),
}
"""By name; each lets through only errors that nobody foresaw."""

_NAME = f"blobs/{DIGEST.hash}/{DIGEST.size_bytes}"
_FILE = re_pb.FileNode(name="file", digest=DIGEST)
_DIRECTORY = re_pb.Directory(files=[_FILE], symlinks=[re_pb.SymlinkNode(name="l", target="../x")])
_RESULT = re_pb.ActionResult(
    output_files=[re_pb.OutputFile(path="a/b", digest=DIGEST, contents=DATA)],
    output_directories=[re_pb.OutputDirectory(path="d", tree_digest=DIGEST)],
    output_symlinks=[re_pb.OutputSymlink(path="s", target="t")],
    stdout_raw=b"out",
)
_UPDATE = re_pb.BatchUpdateBlobsRequest.Request(digest=DIGEST, data=DATA)
_SEED_MESSAGES: dict[str, Message] = {
    "directory": _DIRECTORY,
    "tree": re_pb.Tree(root=_DIRECTORY, children=[_DIRECTORY]),
    "action_result": _RESULT,
    "find_missing": re_pb.FindMissingBlobsRequest(blob_digests=[DIGEST, DIGEST]),
    "batch_update": re_pb.BatchUpdateBlobsRequest(requests=[_UPDATE, _UPDATE]),
    "batch_read": re_pb.BatchReadBlobsRequest(digests=[DIGEST], acceptable_compressors=["ZSTD"]),
    "get_tree": re_pb.GetTreeRequest(root_digest=DIGEST, page_size=2),
    "split": re_pb.SplitBlobRequest(blob_digest=DIGEST, chunking_function="REP_MAX_CDC"),
    "splice": re_pb.SpliceBlobRequest(blob_digest=DIGEST, chunk_digests=[DIGEST]),
    "get_result": re_pb.GetActionResultRequest(action_digest=DIGEST, inline_stdout=True),
    "update_result": re_pb.UpdateActionResultRequest(action_digest=DIGEST, action_result=_RESULT),
    "read": bs_pb.ReadRequest(resource_name=_NAME, read_offset=1, read_limit=2),
    "write": bs_pb.WriteRequest(resource_name=f"uploads/u/{_NAME}0", data=DATA, finish_write=True),
}
SEEDS: dict[str, bytes] = {
    "resource_names": f"a/uploads/u/compressed-blobs/zstd/{DIGEST.hash}/5/meta".encode(),
    "zstd": b"\x10" + compression.compress(DATA * 9, Compressor.ZSTD),
    "deflate": b"\x10" + compression.compress(DATA * 9, Compressor.DEFLATE),
    "chunking": DATA * 90,
    **{name: message.SerializeToString() for name, message in _SEED_MESSAGES.items()},
}
"""For each target one input that is right."""
