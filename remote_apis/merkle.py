"""Canonical Directory and Tree messages: what they must look like, and how to walk them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Protocol

from google.protobuf.message import DecodeError

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_ROOT_TAG = 0x0A
_CHILD_TAG = 0x12
MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
"""A Directory message is handled in memory; a larger one is refused."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def check_name(name: str) -> str:
    """Return a name that is one path segment (REAPI 2.12 Directory). Raises InvalidRequest."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise InvalidRequest(f"{name[:160]!r} is not a file name")
    return name


def check_directory(directory: re_pb.Directory, function: DigestFunction) -> None:
    """Check that the message is canonical (REAPI 2.12 Directory). Raises InvalidRequest."""
    check_entries(directory, function)
    for kind, nodes in _kinds(directory):
        previous = b""
        for node in nodes:
            encoded = node.name.encode()
            if encoded < previous:
                raise InvalidRequest(f"directory's {kind} are not sorted at {node.name[:160]!r}")
            previous = encoded
    _check_properties(directory.node_properties)
    for file in directory.files:
        _check_properties(file.node_properties)
    for symlink in directory.symlinks:
        _check_properties(symlink.node_properties)


def check_entries(directory: re_pb.Directory, function: DigestFunction) -> None:
    """Check names, uniqueness and digests, in whatever order. Raises InvalidRequest."""
    seen: set[str] = set()
    for _kind, nodes in _kinds(directory):
        for node in nodes:
            name = check_name(node.name)
            if name in seen:
                raise InvalidRequest(f"directory has two entries named {name[:160]!r}")
            seen.add(name)
    for file in directory.files:
        Digest.from_message(file.digest, function)
    for child in directory.directories:
        Digest.from_message(child.digest, function)
    for symlink in directory.symlinks:
        if not symlink.target or "\0" in symlink.target:
            raise InvalidRequest(f"symlink {symlink.name[:160]!r} has no usable target")


def _kinds(directory: re_pb.Directory) -> tuple[tuple[str, Iterable[_Named]], ...]:
    return (
        ("files", directory.files),
        ("directories", directory.directories),
        ("symlinks", directory.symlinks),
    )


def _check_properties(properties: re_pb.NodeProperties) -> None:
    names = [node_property.name for node_property in properties.properties]
    if names != sorted(names, key=str.encode):
        raise InvalidRequest(f"node properties are not sorted by name: {names[:10]}")


def parse_directory(data: bytes) -> re_pb.Directory:
    """Decode a Directory message. Raises InvalidRequest."""
    try:
        return re_pb.Directory.FromString(data)
    except DecodeError as error:
        raise InvalidRequest(f"not a Directory message: {error}") from error


def build_tree(
    root: re_pb.Directory, children: Iterable[re_pb.Directory], function: DigestFunction
) -> bytes:
    """A Tree in the one encoding that is topologically sorted, each child once (REAPI 2.4).

    `children` holds at least every Directory below `root`; which of them comes first does not
    matter. Raises InvalidRequest when one is missing.
    """
    by_digest = {}
    for child in children:
        data = child.SerializeToString(deterministic=True)
        by_digest[Digest.of(data, function)] = (child, data)
    order: list[bytes] = []
    # Depth first and reversed at the end: every parent then comes before all its children, also
    # when a child is shared by parents on different levels.
    done: set[Digest] = set()
    stack: list[tuple[Digest | None, Iterator[Digest]]] = [(None, _child_digests(root, function))]
    while stack:
        digest, below = stack[-1]
        following = next((child for child in below if child not in done), None)
        if following is not None:
            if following not in by_digest:
                raise InvalidRequest(f"tree lacks the directory {following}")
            stack.append((following, _child_digests(by_digest[following][0], function)))
            done.add(following)
            continue
        stack.pop()
        if digest is not None:
            order.append(by_digest[digest][1])
    parts = [_field(_ROOT_TAG, root.SerializeToString(deterministic=True))]
    parts += [_field(_CHILD_TAG, data) for data in reversed(order)]
    return b"".join(parts)


def _child_digests(directory: re_pb.Directory, function: DigestFunction) -> Iterator[Digest]:
    # Last name first: the order is reversed in the end.
    for child in reversed(directory.directories):
        yield Digest.from_message(child.digest, function)


def _field(tag: int, data: bytes) -> bytes:
    out = bytearray([tag])
    length = len(data)
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out) + data


async def directories_of_tree(
    chunks: AsyncIterator[bytes],
) -> AsyncIterator[re_pb.Directory]:
    """The Directories of a Tree message in the order they are in, one in memory at a time.

    Raises InvalidRequest for what is not a Tree.
    """
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while (found := _next_field(buffer)) is not None:
            tag, start, end = found
            if tag not in (_ROOT_TAG, _CHILD_TAG):
                raise InvalidRequest(f"not a Tree message: unexpected tag {tag:#x}")
            yield parse_directory(bytes(buffer[start:end]))
            del buffer[:end]
    if buffer:
        raise InvalidRequest("not a Tree message: it ends early")


def _next_field(buffer: bytearray) -> tuple[int, int, int] | None:
    """Tag, start and end of the first field if it is complete. Its length is bounded."""
    length = shift = 0
    for at, byte in enumerate(buffer[1:11], start=1):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if length > MAX_DIRECTORY_BYTES:
                raise InvalidRequest(f"not a Tree message: a directory of {length} bytes")
            end = at + 1 + length
            return (buffer[0], at + 1, end) if end <= len(buffer) else None
    if len(buffer) > 10:
        raise InvalidRequest("not a Tree message: damaged length")
    return None
