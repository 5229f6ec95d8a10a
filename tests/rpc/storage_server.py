"""A gRPC server with the storage services; as a program it serves until its input ends."""

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

from remote_apis.chunking import FastCdc2020, RepMaxCdc
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from server.actioncache.completeness import CompletenessCheckingActionCache
from server.blobstore.disk import DiskBlobStore
from server.db.action_results import SqlActionCache
from server.db.engine import Database
from server.rpc.action_cache import ActionCacheServicer
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.capabilities import CapabilitiesServicer, ExecutionOffer, Offer
from server.rpc.cas import CasServicer
from server.rpc.handlers import StatusHandlers
from server.rpc.options import SERVER_OPTIONS
from server.rpc.terms import Terms

FAST_CDC = FastCdc2020(average_bytes=4096)
REP_MAX_CDC = RepMaxCdc(min_bytes=4096, horizon_bytes=32768)
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
"""For the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Clients of a running server, and what lies behind it."""

    cas: Any
    bytes: Any
    cache: Any
    capabilities: Any
    channel: grpc.aio.Channel
    port: int
    store: DiskBlobStore
    path: Path


async def start_storage(
    stack: AsyncExitStack,
    path: Path,
    terms: Terms,
    *,
    update_enabled: bool = True,
    requires_action: bool = True,
    blob_directory: str | None = None,
) -> Storage:
    """Serve until the stack closes. `blob_directory`: told to clients in place of the right one."""
    store = await DiskBlobStore.open(path / "blobs")
    stack.push_async_callback(store.close)
    database = await Database.open(path / "db.sqlite")
    stack.push_async_callback(database.close)
    cache = CompletenessCheckingActionCache(SqlActionCache(database), store)
    byte_stream = ByteStreamServicer(store=store, terms=terms)
    stack.push_async_callback(byte_stream.close)
    offer = Offer(update_enabled=update_enabled, execution=ExecutionOffer())
    methods = StatusHandlers()
    re_grpc.add_ContentAddressableStorageServicer_to_server(
        CasServicer(store=store, terms=terms, chunkers=(FAST_CDC, REP_MAX_CDC)), methods
    )
    bs_grpc.add_ByteStreamServicer_to_server(byte_stream, methods)
    re_grpc.add_ActionCacheServicer_to_server(
        ActionCacheServicer(
            cache=cache,
            store=store,
            terms=terms,
            update_enabled=update_enabled,
            requires_action=requires_action,
        ),
        methods,
    )
    re_grpc.add_CapabilitiesServicer_to_server(
        CapabilitiesServicer(
            terms=terms,
            offer_of=lambda _: offer,
            fast_cdc=FAST_CDC,
            rep_max_cdc=REP_MAX_CDC,
            blob_directory=blob_directory or str(path / "blobs"),
        ),
        methods,
    )
    server = methods.server(SERVER_OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, 0)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED)
    stack.push_async_callback(channel.close)
    return Storage(
        cas=re_grpc.ContentAddressableStorageStub(channel),
        bytes=bs_grpc.ByteStreamStub(channel),
        cache=re_grpc.ActionCacheStub(channel),
        capabilities=re_grpc.CapabilitiesStub(channel),
        channel=channel,
        port=port,
        store=store,
        path=path,
    )


async def main() -> None:
    """Say the port, serve until standard input ends."""
    async with AsyncExitStack() as stack:
        storage = await start_storage(stack, Path(sys.argv[1]), Terms())
        print(storage.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
