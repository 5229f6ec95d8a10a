"""The platform property `container-image`: what its values mean, and which of them are equal.

Server and workers have to agree on that: the one matches by it, the others look images up by it.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from remote_apis.errors import InvalidRequest

PROPERTY = "container-image"
NO_IMAGE = frozenset({"", "none"})
"""Values that ask for no image."""

_DOCKER = "docker://"
_PATH_SCHEMES = ("oci:", "oci-archive:", "docker-archive:")
_HUB = "docker.io"
_SHA = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
_DIGEST = re.compile(_SHA)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    r"(?:(?P<host>localhost(?::\d{1,5})?|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+(?::\d{1,5})?"
    r"|[a-zA-Z0-9-]+:\d{1,5})/)?"
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    rf"(?:@(?P<digest>{_SHA}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """An image that an action asks for.

    `text` is the property's value. Two references mean the same image if their `canonical` is the
    same: a digest alone (`sha256:…`) where there is one, else `host/path:tag`, else `path:` and an
    absolute path, a tag perhaps included. `engine_name` is what docker and podman call it, None
    for a path.
    """

    text: str
    canonical: str
    engine_name: str | None


def parse_image(text: str) -> ImageReference:
    """What a value of `container-image` means.

    Taken are `docker://NAME[:TAG][@DIGEST]`, the same without `docker://`, an image id or digest,
    `oci:/PATH[:TAG]`, `oci-archive:/PATH[:TAG]`, `docker-archive:/PATH[:TAG]`, and a plain
    absolute path. Names are completed as docker does. Raises InvalidRequest.
    """
    shown = text[:300]
    if len(text) > 4096 or "\0" in text:
        raise InvalidRequest(f"container-image {shown!r} is too long or holds a NUL")
    path = next((text[len(s) :] for s in _PATH_SCHEMES if text.startswith(s)), None)
    if path is None and text.startswith("/"):
        path = text
    if path is not None:
        if not path.startswith("/"):
            raise InvalidRequest(f"container-image {shown!r}: the path has to be absolute")
        return ImageReference(text=text, canonical=path_key(path), engine_name=None)
    name = text.removeprefix(_DOCKER)
    if _DIGEST.fullmatch(name):
        return ImageReference(text=text, canonical=name, engine_name=name)
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidRequest(
            f"container-image {shown!r} is neither docker://NAME:TAG, docker://NAME@sha256:…, "
            "a bare name, oci:/PATH, oci-archive:/PATH.tar, docker-archive:/PATH.tar nor a path"
        )
    full = _completed(match["host"], match["path"])
    if match["digest"]:
        digest = match["digest"]
        return ImageReference(text=text, canonical=digest, engine_name=f"{full}@{digest}")
    tagged = f"{full}:{match['tag'] or 'latest'}"
    return ImageReference(text=text, canonical=tagged, engine_name=tagged)


def canonical_image(text: str) -> str:
    """`parse_image(text).canonical`, and `text` itself where that means nothing."""
    try:
        return parse_image(text).canonical
    except InvalidRequest:
        return text


def path_key(path: str) -> str:
    """The canonical form of an image that is named by an absolute path."""
    return "path:/" + posixpath.normpath(path).lstrip("/")


def is_digest(text: str) -> bool:
    """Whether it is a digest as images have them."""
    return _DIGEST.fullmatch(text) is not None


def _completed(host: str | None, path: str) -> str:
    if host in (None, _HUB, "index.docker.io"):
        return f"{_HUB}/{path}" if "/" in path else f"{_HUB}/library/{path}"
    return f"{host}/{path}"
