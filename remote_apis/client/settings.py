"""What a client keeps to: sizes, deadlines, concurrency, retries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from remote_apis.compression import Compressor
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

CHUNK_SIZE = 1024 * 1024
"""Bytes in a ByteStream message. Measured: the best throughput a CPU second with grpc.aio."""

Metadata = tuple[tuple[str, str | bytes], ...]
"""Headers of a call, as grpc.aio takes them."""

REQUEST_METADATA_HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a call that failed as `Unavailable` is made, and how long to wait between.

    The delay doubles from `first_delay` to `max_delay` seconds, each drawn at random between its
    half and its whole; a RetryInfo of the server takes its place (REAPI 2.12, any error).
    """

    attempts: int = 1
    first_delay: float = 0.1
    max_delay: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """Limits of one client. Sizes in bytes, times in seconds."""

    # gRPC servers refuse messages above 4 MiB unless told otherwise, so a batch stays well below
    # that, and below what servers that keep a margin of their own advertise.
    batch_bytes: int = 3 * 1024 * 1024 + 512 * 1024
    # Blobs above this go through ByteStream: as fast from here on, and never whole in memory.
    small_blob_bytes: int = 1024 * 1024
    find_missing_digests: int = 10_000
    batch_digests: int = 4_000
    concurrent_calls: int = 16
    call_timeout: float = 60.0
    # A transfer gets this much beyond call_timeout for its size.
    slowest_bytes_per_second: int = 256 * 1024
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    # Whether the server is on another machine; one that tells on which it is knows better. Then
    # blobs travel compressed, as far as it can: streams and what is read in batches, and updates.
    is_far: bool = False
    compressor: Compressor = Compressor.IDENTITY
    update_compressor: Compressor = Compressor.IDENTITY

    def transfer_timeout(self, size: int) -> float:
        """Seconds that moving `size` bytes may take."""
        return self.call_timeout + size / self.slowest_bytes_per_second


def request_metadata(message: re_pb.RequestMetadata) -> Metadata:
    """The header that tells on whose behalf a call is made (REAPI 2.12 RequestMetadata)."""
    return ((REQUEST_METADATA_HEADER, message.SerializeToString(deterministic=True)),)


def limits_of_server(
    capabilities: re_pb.CacheCapabilities, limits: ClientLimits, *, is_far: bool = False
) -> ClientLimits:
    """`limits` made as narrow as the server's max_batch_total_size_bytes asks, and what to compress
    by when it `is_far`."""
    if is_far:
        limits = replace(
            limits,
            compressor=_zstd_if_in(capabilities.supported_compressors),
            update_compressor=_zstd_if_in(capabilities.supported_batch_update_compressors),
        )
    advertised = capabilities.max_batch_total_size_bytes
    if not advertised or advertised >= limits.batch_bytes:
        return limits
    return replace(
        limits, batch_bytes=advertised, small_blob_bytes=min(advertised, limits.small_blob_bytes)
    )


def _zstd_if_in(supported: Iterable[int]) -> Compressor:
    return Compressor.ZSTD if Compressor.ZSTD.value in supported else Compressor.IDENTITY
