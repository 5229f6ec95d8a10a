"""Every gRPC service, made of the server's parts and added to one server."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from remote_apis.chunking import FastCdc2020, RepMaxCdc
from remote_apis.stubs.build.bazel.remote.asset.v1 import remote_asset_pb2_grpc as ra_grpc
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2_grpc as ls_grpc
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2_grpc as rw_grpc
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2_grpc as w_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from server.actioncache.interface import ActionCache
from server.asset.service import AssetService
from server.blobstore.interface import BlobStore
from server.cli.listening import OPTIONS
from server.logstream.live import LiveOutputs
from server.logstream.streams import LogStreams
from server.rpc.action_cache import ActionCacheServicer
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.capabilities import CapabilitiesServicer, ExecutionOffer, Offer
from server.rpc.cas import CasServicer
from server.rpc.execution import ExecutionServicer
from server.rpc.handlers import StatusHandlers
from server.rpc.log_stream import LogByteStreams, LogStreamServicer
from server.rpc.operation_queue import OperationQueueServicer
from server.rpc.operations import OperationsServicer
from server.rpc.options import SERVER_OPTIONS
from server.rpc.remote_asset import FetchServicer, PushServicer
from server.rpc.terms import Terms
from server.rpc.workers import WorkersServicer
from server.scheduler.driver import Scheduler

SERVICES = (
    "build.bazel.remote.asset.v1.Fetch",
    "build.bazel.remote.asset.v1.Push",
    "build.bazel.remote.execution.v2.ActionCache",
    "build.bazel.remote.execution.v2.Capabilities",
    "build.bazel.remote.execution.v2.ContentAddressableStorage",
    "build.bazel.remote.execution.v2.Execution",
    "build.bazel.remote.logstream.v1.LogStreamService",
    "buildbarn.remoteworker.OperationQueue",
    "distbuild.workers.v1.Workers",
    "google.bytestream.ByteStream",
    "google.longrunning.Operations",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Streams that clients make, and those of what actions print.

    They are apart, so that the many actions of a build do not push out the others.
    """

    made: LogStreams
    printed: LogStreams
    live: LiveOutputs


def open_logs(data_dir: Path, store: BlobStore, stack: contextlib.AsyncExitStack) -> Logs:
    """Open the directories of both kinds; the stack closes them."""
    made = LogStreams(data_dir / "logs")
    stack.callback(made.close)
    printed = LogStreams(data_dir / "live", max_streams=4000, keep_seconds=600.0)
    stack.callback(printed.close)
    return Logs(made=made, printed=printed, live=LiveOutputs(printed, store))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the services stand on. `vouching`: see `server.blobstore.vouching`; `blob_directory`:
    where the store has its files."""

    blob_directory: str
    store: BlobStore
    vouching: BlobStore
    cache: ActionCache
    scheduler: Scheduler
    logs: Logs
    assets: AssetService
    health: health.aio.HealthServicer


def make_server(parts: Parts, stack: contextlib.AsyncExitStack) -> grpc.aio.Server:
    """A server with all services; it listens nowhere yet."""
    methods = StatusHandlers()
    terms = Terms()
    _add_storage(methods, parts, terms, stack)
    _add_execution(methods, parts, terms)
    assets = parts.assets
    ra_grpc.add_FetchServicer_to_server(FetchServicer(assets=assets, terms=terms), methods)
    ra_grpc.add_PushServicer_to_server(PushServicer(assets=assets, terms=terms), methods)
    streams = LogStreamServicer(streams=parts.logs.made)
    ls_grpc.add_LogStreamServiceServicer_to_server(streams, methods)
    health_pb2_grpc.add_HealthServicer_to_server(parts.health, methods)
    listed = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflected = reflection.aio.ReflectionServicer(listed)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, methods)
    return methods.server((*SERVER_OPTIONS, *OPTIONS))


def _add_storage(
    methods: StatusHandlers, parts: Parts, terms: Terms, stack: contextlib.AsyncExitStack
) -> None:
    logs = LogByteStreams(parts.logs.printed, parts.logs.made)
    streams = ByteStreamServicer(store=parts.store, terms=terms, others=[logs])
    stack.push_async_callback(streams.close)
    bs_grpc.add_ByteStreamServicer_to_server(streams, methods)
    fast_cdc, rep_max_cdc = FastCdc2020(), RepMaxCdc()
    cas = CasServicer(store=parts.store, terms=terms, chunkers=(fast_cdc, rep_max_cdc))
    re_grpc.add_ContentAddressableStorageServicer_to_server(cas, methods)
    results = ActionCacheServicer(cache=parts.cache, store=parts.store, terms=terms)
    re_grpc.add_ActionCacheServicer_to_server(results, methods)
    offer = Offer(execution=ExecutionOffer(node_properties=("mtime", "unix_mode")))
    capabilities = CapabilitiesServicer(
        terms=terms,
        offer_of=lambda instance: offer,
        fast_cdc=fast_cdc,
        rep_max_cdc=rep_max_cdc,
        blob_directory=parts.blob_directory,
    )
    re_grpc.add_CapabilitiesServicer_to_server(capabilities, methods)


def _add_execution(methods: StatusHandlers, parts: Parts, terms: Terms) -> None:
    scheduler, live = parts.scheduler, parts.logs.live
    execution = ExecutionServicer(
        scheduler=scheduler, store=parts.vouching, cache=parts.cache, terms=terms, live=live
    )
    re_grpc.add_ExecutionServicer_to_server(execution, methods)
    operations = OperationsServicer(scheduler=scheduler, live=live)
    operations_pb2_grpc.add_OperationsServicer_to_server(operations, methods)
    queue = OperationQueueServicer(scheduler=scheduler, live=live)
    rw_grpc.add_OperationQueueServicer_to_server(queue, methods)
    w_grpc.add_WorkersServicer_to_server(WorkersServicer(scheduler=scheduler), methods)
