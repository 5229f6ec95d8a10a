"""What actions take on real workers: the whole way, the sandbox, the input root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp

from bench.execution.load import Load, percentile
from bench.figures import Figure
from bench.servers import Server, serving
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_FILES_IN_DIRECTORY = 100


def worker_figures(directory: Path, count: int) -> Iterator[Figure]:
    """Empty actions a second with one and four workers, with and without the sandbox."""
    alone = {}
    for sandbox in ("none", "bubblewrap"):
        for workers in (1, 4):
            with serving(directory / f"{sandbox}{workers}", workers=workers, sandbox=sandbox) as it:
                rate, latency = uvloop.run(_rate(it, workers, count))
            yield Figure(
                f"empty actions, {sandbox}, {workers} workers", rate, "actions/s", higher=True
            )
            alone[sandbox] = latency
    cost = (alone["bubblewrap"] - alone["none"]) * 1000
    yield Figure("sandbox cost of an action by itself", cost, "ms")


def input_figures(directory: Path) -> Iterator[Figure]:
    """Making input roots from nothing, from files seen before, and from a root seen before."""
    for files in (1_000, 10_000):
        with serving(directory / str(files), workers=1, sandbox="bubblewrap") as server:
            seconds = uvloop.run(_inputs(server, files))
        for what, value in zip(("cold", "seen twice", "seen before"), seconds, strict=True):
            yield Figure(f"input root of {files} files, {what}", value * 1000, "ms")


async def _rate(server: Server, workers: int, count: int) -> tuple[float, float]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        load = Load(channel)
        await load.run_all(await load.prepare(count // 5), at_once=8)
        rate = await load.run_all(await load.prepare(count), at_once=4 * workers)
        alone = [await load.execute(each) for each in await load.prepare(count // 5)]
        return rate, percentile(alone, 50)


async def _inputs(server: Server, files: int) -> list[float]:
    """Seconds from the begin of fetching inputs to its end, of three runs of the same root."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        load = Load(channel)
        await load.run_all(await load.prepare(20), at_once=4)
        root = await _upload_root(load, files)
        return [await _fetch_seconds(load, action) for action in await load.prepare(3, root)]


async def _fetch_seconds(load: Load, action: Digest) -> float:
    metadata = (await load.result_of(action)).execution_metadata
    end = _seconds(metadata.input_fetch_completed_timestamp)
    return end - _seconds(metadata.input_fetch_start_timestamp)


def _seconds(stamp: Timestamp) -> float:
    return stamp.ToNanoseconds() / 1e9


async def _upload_root(load: Load, files: int) -> bytes:
    """A root with directories of a hundred small files each; the Directory message."""
    root = re_pb.Directory()
    blobs = []
    for first in range(0, files, _FILES_IN_DIRECTORY):
        directory = re_pb.Directory()
        for number in range(first, first + _FILES_IN_DIRECTORY):
            content = b"file %d of %d\n" % (number, files) * 40
            digest = Digest.of(content, DigestFunction.SHA256)
            directory.files.add(name=f"{number:06}", digest=digest.to_message())
            blobs.append(content)
        data = directory.SerializeToString()
        digest = Digest.of(data, DigestFunction.SHA256)
        root.directories.add(name=f"{first:06}", digest=digest.to_message())
        blobs.append(data)
    data = root.SerializeToString()
    await load.upload([*blobs, data])
    return data
