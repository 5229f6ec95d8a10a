"""Calls a server with grpcurl: JSON in, JSON out, by reflection or by descriptions of ours."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from .processes import Finished, client_environment, run
from .programs import Tools

# grpcurl's exit status for a call that the server refused is 64 + the gRPC status code.
REFUSED = 64


def in_base64(data: bytes) -> str:
    """Bytes as protobuf's JSON has them."""
    return base64.b64encode(data).decode()


def digest_message(digest: str) -> dict[str, str]:
    """A Digest message from HASH/SIZE; 64-bit numbers are strings in protobuf's JSON."""
    hash_, _, size = digest.partition("/")
    return {"hash": hash_, "sizeBytes": size}


def _in_camel_case(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Field names as protobuf's JSON writes them.

    Python's generated descriptions leave the JSON names out, and then grpcurl prints the names of
    the .proto file.
    """
    return {re.sub(r"_(\w)", lambda found: found[1].upper(), key): value for key, value in pairs}


def protoset_of(file: FileDescriptor) -> bytes:
    """The file and all that it imports, imports first, in the form that `protoc` writes."""
    files: dict[str, FileDescriptor] = {}

    def add(described: FileDescriptor) -> None:
        for imported in described.dependencies:
            add(imported)
        files[described.name] = described

    add(file)
    result = FileDescriptorSet()
    for described in files.values():
        described.CopyToProto(result.file.add())
    return result.SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grpcurl:
    """A user of grpcurl in the directory `home`. `target` is HOST:PORT or unix:PATH.

    With `described`, the services' descriptions come from us: buildbox-casd has no reflection.
    """

    tools: Tools
    home: Path
    target: str
    described: FileDescriptor | None = None

    def __call__(self, *words: str, data: object = None, headers: tuple[str, ...] = ()) -> Finished:
        options = ["-plaintext", "-max-time", "30"]
        for header in headers:
            options += ["-H", header]
        self.home.mkdir(parents=True, exist_ok=True)
        if self.described is not None:
            protoset = self.home / "protoset"
            protoset.write_bytes(protoset_of(self.described))
            options += ["-protoset", str(protoset)]
        if data is not None:
            options += ["-d", "@"]
        messages = data if isinstance(data, list) else [data]
        stdin = "\n".join(json.dumps(message) for message in messages if message is not None)
        command: list[str | Path] = [self.tools.grpcurl, *options, self.target, *words]
        environment = client_environment(self.home)
        return run(command, environment=environment, stdin=stdin, timeout=60)

    def call(
        self, method: str, request: object, headers: tuple[str, ...] = ()
    ) -> Mapping[str, Any]:
        """One answer to one request, or to a stream of them given as a list."""
        finished = self(method, data=request, headers=headers).ok()
        answer: dict[str, Any] = json.loads(finished.stdout, object_pairs_hook=_in_camel_case)
        return answer

    def refused(self, method: str, request: object, code: int) -> str:
        """What the server said when it refused a call with this gRPC status code."""
        return self(method, data=request).expect(REFUSED + code).stderr
