"""A client of buildbox-casd's own API, run by BuildStream's Python, which brings its stubs.

    python local_cas.py capture SOCKET FILE     store a file, in the proxy and on the server
    python local_cas.py fetch SOCKET HASH/SIZE  have the proxy get a blob that it lacks

casd splits blobs into chunks for these calls only, never for ByteStream.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def call(socket: str, method: str, **fields: object) -> Any:
    """One call of the LocalContentAddressableStorage service."""
    grpc = importlib.import_module("grpc")
    messages = importlib.import_module("buildstream._protos.build.buildgrid.local_cas_pb2")
    stubs = importlib.import_module("buildstream._protos.build.buildgrid.local_cas_pb2_grpc")
    request = getattr(messages, f"{method}Request")(**fields)
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        stub = stubs.LocalContentAddressableStorageStub(channel)
        return getattr(stub, method)(request, timeout=60)


def main(verb: str, socket: str, what: str) -> None:
    """Raises AssertionError, with the answer, when a blob was not moved."""
    if verb == "capture":
        answer = call(socket, "CaptureFiles", path=[what])
    else:
        hash_, _, size = what.partition("/")
        digest = {"hash": hash_, "size_bytes": int(size)}
        answer = call(socket, "FetchMissingBlobs", blob_digests=[digest])
    assert all(each.status.code == 0 for each in answer.responses), answer


if __name__ == "__main__":
    main(*sys.argv[1:])
