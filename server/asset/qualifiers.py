"""What the qualifiers of a fetch ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from remote_apis.errors import InvalidFields, InvalidRequest
from server.asset.index import AssetKind, Qualifiers

CHECKSUM = "checksum.sri"
RESOURCE_TYPE = "resource_type"
DIRECTORY = "directory"
BRANCH = "vcs.branch"
COMMIT = "vcs.commit"
GIT_TYPES = frozenset({"application/x-git"})
_CANONICAL_ID = "bazel.canonical_id"
_AUTH_HEADERS = "bazel.auth_headers"
_HEADER = "http_header:"
_HEADER_OF_URL = "http_header_url:"
_OF_BLOBS = frozenset({CHECKSUM, RESOURCE_TYPE, _CANONICAL_ID, _AUTH_HEADERS})
_OF_DIRECTORIES = _OF_BLOBS | {DIRECTORY, BRANCH, COMMIT}
_MAX_VIOLATIONS = 15
_MAX_DIGITS = 9
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_TO_SET = frozenset(
    {
        *("host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "trailer"),
        *("accept-encoding", "range", "if-range", "expect", "proxy-authorization"),
    }
)


def unsupported(kind: AssetKind, qualifiers: Qualifiers) -> list[str]:
    """The names that no origin understands."""
    supported = _OF_BLOBS if kind is AssetKind.BLOB else _OF_DIRECTORIES
    return [
        name
        for name, _ in qualifiers
        if name not in supported and not name.startswith((_HEADER, _HEADER_OF_URL))
    ]


def check_known(names: Iterable[str], known: Collection[str]) -> None:
    """Raises InvalidFields for those of the names that are not known (Remote Asset API Fetch)."""
    wrong = [name for name in names if name not in known][:_MAX_VIOLATIONS]
    if wrong:
        raise InvalidFields(
            f"qualifiers that are not supported: {', '.join(name[:80] for name in wrong)}",
            [("qualifiers.name", f'"{name[:160]}" not supported') for name in wrong],
        )


def without_secrets(qualifiers: Qualifiers) -> Qualifiers:
    """Those that describe the content; headers can carry passwords."""
    return tuple(
        (name, value)
        for name, value in qualifiers
        if name != _AUTH_HEADERS and not name.startswith((_HEADER, _HEADER_OF_URL))
    )


def headers_for(qualifiers: Qualifiers, uris: Sequence[str], number: int) -> dict[str, str]:
    """The headers for the URI of that number, names in lower case. Raises InvalidRequest.

    As bazel sends them: `http_header:NAME` for all URIs, `http_header_url:NUMBER:NAME` for one,
    and `bazel.auth_headers`, a JSON object from URIs to objects of headers.
    """
    general: dict[str, str] = {}
    special: dict[str, str] = {}
    for name, value in qualifiers:
        if name.startswith(_HEADER):
            general[name.removeprefix(_HEADER)] = value
        elif name.startswith(_HEADER_OF_URL):
            of_url, colon, header = name.removeprefix(_HEADER_OF_URL).partition(":")
            is_number = of_url.isdecimal() and len(of_url) <= _MAX_DIGITS
            if not colon or not is_number or int(of_url) >= len(uris):
                raise InvalidRequest(f"qualifier {name[:160]!r} names no URI of the request")
            if int(of_url) == number:
                special[header] = value
        elif name == _AUTH_HEADERS:
            general |= _auth_headers(value).get(uris[number], {})
    return {name.lower(): _checked(name, value) for name, value in (general | special).items()}


def _auth_headers(text: str) -> Mapping[str, dict[str, str]]:
    try:
        parsed = json.loads(text)
        return {
            str(uri): {str(name): str(value) for name, value in headers.items()}
            for uri, headers in parsed.items()
        }
    except (ValueError, AttributeError, RecursionError):
        raise InvalidRequest(
            f"qualifier {_AUTH_HEADERS} is not a JSON object from URIs to objects of headers"
        ) from None


def _checked(name: str, value: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _NOT_TO_SET:
        raise InvalidRequest(f"a qualifier sets the header {name[:160]!r}, which may not be set")
    if not value.replace("\t", " ").isprintable():
        raise InvalidRequest(f"a qualifier's value for the header {name!r} is not printable text")
    return value
