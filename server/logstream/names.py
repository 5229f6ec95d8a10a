"""The names of log streams: `{parent}/logstreams/{id}`, and `/{token}` behind it for writing."""

from __future__ import annotations

from dataclasses import dataclass

from remote_apis.errors import InvalidRequest

_KEYWORD = "logstreams"
_OF_BLOBS = frozenset({"blobs", "compressed-blobs", "uploads"})
_MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LogName:
    """`token` is None in the name for reading."""

    parent: str
    stream_id: str
    token: str | None

    def __str__(self) -> str:
        segments = [self.parent, _KEYWORD, self.stream_id, self.token]
        return "/".join(segment for segment in segments if segment)


def is_log_name(name: str) -> bool:
    """Whether a resource name is of this form, and not that of a blob."""
    segments = name.split("/")
    return _KEYWORD in segments and not _OF_BLOBS.intersection(segments)


def parse_log_name(name: str) -> LogName:
    """Parse either form. Raises InvalidRequest."""
    segments = name.split("/")
    for count in (2, 3):
        if len(segments) >= count and segments[-count] == _KEYWORD and all(segments):
            token = segments[-1] if count == 3 else None
            stream_id = segments[1 - count]
            return LogName(parent="/".join(segments[:-count]), stream_id=stream_id, token=token)
    raise InvalidRequest(
        f"resource name {name[:300]!r} is not PARENT/logstreams/ID, with /TOKEN for writing"
    )


def check_parent(parent: str) -> str:
    """Return the name of what a stream may belong to; empty for the server itself.

    Raises InvalidRequest.
    """
    if len(parent) > _MAX_LENGTH or not parent.isprintable():
        raise InvalidRequest(f"parent {parent[:160]!r} is too long or holds control characters")
    for segment in parent.split("/") if parent else ():
        if segment in ("", ".", "..", _KEYWORD) or segment in _OF_BLOBS:
            raise InvalidRequest(f"parent {parent[:160]!r} has the bad segment {segment!r}")
    return parent
