"""The names by which ByteStream knows blobs (REAPI 2.12 ContentAddressableStorage)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from remote_apis import compression
from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import BY_LABEL, DigestFunction, infer
from remote_apis.errors import InvalidRequest

_KEYWORDS = frozenset(
    {
        *("blobs", "uploads", "actions", "actionResults", "operations", "capabilities"),
        "compressed-blobs",
    }
)
_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
_SIZE = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z", re.ASCII)
_MAX_INSTANCE_LENGTH = 1024
_MAX_UPLOAD_ID_LENGTH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobName:
    """What a resource name says. `digest` is that of the uncompressed blob."""

    instance: str
    digest: Digest
    compressor: Compressor = Compressor.IDENTITY

    def to_read(self) -> str:
        """The name to give to ByteStream.Read."""
        return self._join([])

    def to_write(self, upload_id: str) -> str:
        """The name to give to ByteStream.Write; `upload_id` is a version 4 UUID."""
        return self._join(["uploads", upload_id])

    def _join(self, segments: list[str]) -> str:
        if self.instance:
            segments.insert(0, self.instance)
        if self.compressor is Compressor.IDENTITY:
            segments.append("blobs")
        else:
            segments += ["compressed-blobs", self.compressor.label]
        if self.digest.function.is_named_in_paths:
            segments.append(self.digest.function.label)
        return "/".join([*segments, self.digest.hash, str(self.digest.size)])


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadName:
    """What a name for Write or QueryWriteStatus says; metadata behind the size is ignored."""

    blob: BlobName
    upload_id: str


def check_instance_name(name: str) -> str:
    """Return a valid instance name. Raises InvalidRequest; the empty name is valid."""
    if not name:
        return name
    if len(name) > _MAX_INSTANCE_LENGTH:
        raise InvalidRequest(f"instance name is {len(name)} characters long")
    for segment in name.split("/"):
        if not segment:
            raise InvalidRequest(f"instance name {name!r} has a redundant slash")
        if segment in _KEYWORDS:
            raise InvalidRequest(f"instance name {name!r} contains the keyword {segment!r}")
        if segment in (".", "..") or _BAD_CHARACTERS.search(segment):
            raise InvalidRequest(f"instance name {name!r} has the bad segment {segment!r}")
    return name


def parse_read_name(name: str) -> BlobName:
    """Parse `[instance/]{blobs|compressed-blobs/compressor}/[function/]hash/size`.

    Raises InvalidRequest.
    """
    instance, segments = _split_instance(name)
    blob, rest = _parse_blob(name, instance, segments)
    if rest:
        raise _wrong(name, "it goes on after the size")
    return blob


def parse_write_name(name: str) -> UploadName:
    """Parse `[instance/]uploads/uuid/` and what `parse_read_name` does, then any metadata.

    Raises InvalidRequest. The uuid may be anything that is one short segment: nothing here rests
    on its being unique.
    """
    instance, segments = _split_instance(name)
    if segments[0] != "uploads":
        raise _wrong(name, f"{segments[0]!r} stands where 'uploads' is expected")
    upload_id = segments[1] if len(segments) > 1 else ""
    if not upload_id or len(upload_id) > _MAX_UPLOAD_ID_LENGTH:
        raise _wrong(name, "there is no uuid after 'uploads'")
    blob, _metadata = _parse_blob(name, instance, segments[2:])
    return UploadName(blob=blob, upload_id=upload_id)


def _split_instance(name: str) -> tuple[str, list[str]]:
    segments = name.split("/")
    if not segments[0]:
        raise _wrong(name, "it is empty or begins with a slash")
    for count, segment in enumerate(segments):
        if segment in _KEYWORDS:
            return check_instance_name("/".join(segments[:count])), segments[count:]
    raise _wrong(name, "it contains neither 'blobs' nor 'compressed-blobs'")


def _parse_blob(name: str, instance: str, segments: list[str]) -> tuple[BlobName, list[str]]:
    compressor = Compressor.IDENTITY
    keyword = segments[0] if segments else ""
    if keyword == "compressed-blobs":
        label = segments[1] if len(segments) > 1 else ""
        found = compression.BY_LABEL.get(label)
        if found is None or found is Compressor.IDENTITY:
            raise _wrong(name, f"compressor {label!r} is not supported")
        compressor = found
        segments = segments[2:]
    elif keyword == "blobs":
        segments = segments[1:]
    else:
        raise _wrong(name, f"{keyword!r} stands where 'blobs' is expected")
    function, segments = _parse_function(name, segments)
    if len(segments) < 2:
        raise _wrong(name, "the hash or the size is missing")
    hash_, size = segments[:2]
    if not _SIZE.match(size):
        raise _wrong(name, f"{size[:40]!r} is not a size")
    digest = Digest.parse(hash_, int(size), function)
    return BlobName(instance=instance, digest=digest, compressor=compressor), segments[2:]


def _parse_function(name: str, segments: list[str]) -> tuple[DigestFunction, list[str]]:
    first = segments[0] if segments else ""
    named = BY_LABEL.get(first)
    if named is not None:
        if not named.is_named_in_paths:
            raise _wrong(name, f"digest function {first!r} is not to be named, being inferred")
        return named, segments[1:]
    inferred = infer(len(first))
    if inferred is None:
        raise _wrong(name, f"{first[:160]!r} is neither a digest function nor a hash")
    return inferred, segments


def _wrong(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"resource name {name[:300]!r} is malformed: {why}")
