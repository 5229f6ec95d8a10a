"""The server: reachable, what it offers, and whether a worker answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc.aio

from remote_apis import link_set
from remote_apis.client.blobs import BlobSource
from remote_apis.client.capabilities import get_capabilities
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel
from remote_apis.client.execution import ExecuteOptions, ExecutionClient
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import DistbuildError, Unsupported
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.checks.finding import Finding, fail, ok, warn
from wrapper.inputs.toolchain import machine
from wrapper.remote import function_of

MAX_SKEW = 5.0
_TIMEOUT = 10.0
_PATIENCE = 20.0


async def check_server(url: str, instance: str) -> AsyncIterator[Finding]:
    """What can be told about a server from here."""
    try:
        channel = open_channel(url)
    except (DistbuildError, OSError) as error:
        yield fail("server", str(error), "correct DISTBUILD_REMOTE")
        return
    try:
        started = time.monotonic()
        offer = await get_capabilities(channel, instance=instance, timeout=_TIMEOUT)
        yield _reached(url, offer, time.monotonic() - started)
        function = _function_of(offer)
        yield function if isinstance(function, Finding) else ok("digest function", function.name)
        for finding in _offered(offer):
            yield finding
        if offer.execution_capabilities.exec_enabled and isinstance(function, DigestFunction):
            async for finding in _worker(channel, instance, function):
                yield finding
    except DistbuildError as error:
        remedy = "start it (`distbuild serve`), or correct DISTBUILD_REMOTE, or set it to none"
        yield fail("server", f"{url}: {error}", remedy)
    finally:
        await channel.close()


def _reached(url: str, offer: re_pb.ServerCapabilities, seconds: float) -> Finding:
    low, high = offer.low_api_version, offer.high_api_version
    version = f"REAPI {low.major}.{low.minor} to {high.major}.{high.minor}"
    text = f"{url} answers in {seconds * 1000:.0f} ms; {version}"
    if not low.major <= 2 <= max(high.major, low.major):
        return fail("server", text, "use a server that speaks REAPI 2")
    return ok("server", text)


def _function_of(offer: re_pb.ServerCapabilities) -> DigestFunction | Finding:
    try:
        return function_of(offer)
    except Unsupported as error:
        return fail("digest function", str(error), "use a server that does")


def _offered(offer: re_pb.ServerCapabilities) -> list[Finding]:
    cache = offer.cache_capabilities
    found = []
    if cache.action_cache_update_capabilities.update_enabled:
        found.append(ok("action cache", "what is compiled here is shared"))
    elif offer.execution_capabilities.exec_enabled:
        found.append(ok("action cache", "written by workers alone"))
    else:
        remedy = "have whoever runs the server let this identity write it, if it should"
        text = "may be read and not written: what is compiled here stays here"
        found.append(warn("action cache", text, remedy))
    if not offer.execution_capabilities.exec_enabled:
        found.append(ok("workers", "none: the server is a cache"))
    return found


async def _worker(
    channel: grpc.aio.Channel, instance: str, function: DigestFunction
) -> AsyncIterator[Finding]:
    """Run a trifle on a worker that a link of this machine would need, and read its clock."""
    remedy = "start workers for this architecture, with the compiler and libc of this machine"
    try:
        async with asyncio.timeout(_PATIENCE):
            before = time.time()
            response = await _run_trifle(channel, instance, function)
            after = time.time()
    except TimeoutError:
        text = f"none took a test action within {_PATIENCE:.0f} s"
        yield warn("workers", f"{text}: they are busy, or none fits", remedy)
        return
    except DistbuildError as error:
        yield warn("workers", f"a test action failed: {error}", remedy)
        return
    metadata = response.result.execution_metadata
    if response.status.code or response.result.exit_code:
        said = response.status.message or f"exit code {response.result.exit_code}"
        yield warn("workers", f"a test action failed: {said}", remedy)
        return
    yield ok("workers", f"{metadata.worker or 'one'} ran a test action in {after - before:.2f} s")
    if not metadata.HasField("queued_timestamp"):
        return
    queued = metadata.queued_timestamp.ToNanoseconds() / 1e9
    skew = max(before - queued, queued - after, 0.0)
    if skew > MAX_SKEW:
        text = f"the server's differs from this machine's by {skew:.0f} s"
        yield warn("clock", text, "set both by NTP; certificates and tokens depend on it")
    else:
        yield ok("clock", "the server's is this machine's")


async def _run_trifle(
    channel: grpc.aio.Channel, instance: str, function: DigestFunction
) -> re_pb.ExecuteResponse:
    command = re_pb.Command(arguments=["/bin/sh", "-c", ":"]).SerializeToString(deterministic=True)
    root = re_pb.Directory().SerializeToString(deterministic=True)
    action = re_pb.Action(
        command_digest=Digest.of(command, function).to_message(),
        input_root_digest=Digest.of(root, function).to_message(),
        do_not_cache=True,
    )
    linker = link_set.link_set()
    platform = {"Arch": machine(), "OSFamily": "linux"}
    platform |= {link_set.PROPERTY: linker} if linker else {}
    for name, value in sorted(platform.items()):
        action.platform.properties.add(name=name, value=value)
    data = action.SerializeToString(deterministic=True)
    blobs = [BlobSource(Digest.of(blob, function), blob) for blob in (command, root, data)]
    await CasClient(channel, instance=instance).upload_missing(blobs)
    execution = ExecutionClient(channel, instance=instance, patience=_TIMEOUT)
    return await execution.execute(
        Digest.of(data, function), ExecuteOptions(skip_cache_lookup=True)
    )
