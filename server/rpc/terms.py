"""What the services accept: instance names, digest functions, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remote_apis.compression import Compressor
from remote_apis.digest import Digest, function_of_request
from remote_apis.digest_functions import DigestFunction, infer
from remote_apis.errors import InvalidRequest
from remote_apis.resource_names import check_instance_name

DEFAULT_MAX_BATCH_BYTES = 4 * 1024 * 1024 - 192 * 1024
"""gRPC clients take messages up to 4 MiB unless told otherwise; this leaves room for digests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The same for all services of one server, and what Capabilities advertises.

    `instances`: the names that exist, None for any valid one. `max_batch_bytes` counts the bytes
    of blobs in one batch call. `max_blob_bytes`: 0 for no limit.
    """

    instances: frozenset[str] | None = None
    digest_functions: tuple[DigestFunction, ...] = tuple(DigestFunction)
    compressors: tuple[Compressor, ...] = (Compressor.ZSTD, Compressor.DEFLATE)
    max_batch_bytes: int = DEFAULT_MAX_BATCH_BYTES
    max_blob_bytes: int = 0

    def check_instance(self, name: str) -> str:
        """Return the name of an instance that exists. Raises InvalidRequest."""
        check_instance_name(name)
        if self.instances is not None and name not in self.instances:
            raise InvalidRequest(f"there is no instance {name!r} on this server")
        return name

    def function(self, number: int, hashes: Sequence[str]) -> DigestFunction:
        """The digest function of a request. Raises InvalidRequest."""
        return function_of_request(number, hashes, self.digest_functions)

    def function_of_batch(self, number: int, hashes: Sequence[str]) -> DigestFunction:
        """The same where a bad hash is an error of its own and not of the request.

        The function follows from the first hash that tells it.
        """
        telling = (hash_ for hash_ in hashes if infer(len(hash_)) in self.digest_functions)
        first = next(telling, None)
        if number or first is not None:
            return self.function(number, [first] if first is not None else [])
        return DigestFunction.SHA256

    def check_digest(self, digest: Digest) -> Digest:
        """Return a digest whose function is served. Raises InvalidRequest."""
        if digest.function not in self.digest_functions:
            raise InvalidRequest(f"digest function {digest.function.label} is not supported")
        return digest

    def check_compressor(self, compressor: Compressor) -> Compressor:
        """Return a compressor that is offered. Raises InvalidRequest."""
        if compressor is not Compressor.IDENTITY and compressor not in self.compressors:
            raise InvalidRequest(f"compressor {compressor.label} is not supported")
        return compressor

    def check_upload(self, digest: Digest) -> None:
        """Raises InvalidRequest when the blob is larger than any that is accepted."""
        if self.max_blob_bytes and digest.size > self.max_blob_bytes:
            raise InvalidRequest(
                f"blob {digest} is larger than the {self.max_blob_bytes} bytes accepted"
            )
