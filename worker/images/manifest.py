"""The images that a layout or tarball holds, from its JSON documents."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from worker.images.digests import blob_name, read_document
from worker.images.errors import DamagedImage
from worker.images.files import ImageFiles

MAX_LAYERS = 512
_MAX_DEPTH = 4
_MAX_ENTRIES = 1000
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_REF_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
_ID_FILE = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: its file, the digest of that where the image states one, and of its content."""

    name: str
    digest: str | None
    content_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image. `id` is the digest of its configuration, `digests` those of its manifests.

    `names` are what it says to be called: full names, or tags alone. `user` is as in its
    configuration (OCI image-spec 1.1 config).
    """

    id: str
    digests: frozenset[str]
    names: frozenset[str]
    layers: tuple[Layer, ...]
    environment: tuple[tuple[str, str], ...]
    user: str


def read_images(files: ImageFiles, architecture: str | None = None) -> list[ImageRecord]:
    """The images for this machine in a layout or tarball, each once.

    Raises DamagedImage when there are none, or when a document of one of them is wrong.
    """
    architecture = architecture or _own_architecture()
    found: dict[str, ImageRecord] = {}
    has_index = files.has("index.json")
    try:
        if has_index:
            index = _json(read_document(files, "index.json"))
            for record in _in_index(files, index, architecture, depth=0):
                _add(found, record)
        if files.has("manifest.json"):
            for record in _saved_by_docker(files, architecture):
                _add(found, record)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise DamagedImage(f"its description is malformed: {error!r}") from error
    if not found:
        what = "" if has_index or files.has("manifest.json") else ": neither OCI nor docker save"
        raise DamagedImage(f"it holds no image for {architecture} machines{what}")
    return list(found.values())


def _add(found: dict[str, ImageRecord], record: ImageRecord) -> None:
    known = found.get(record.id)
    if known is not None:
        record = replace(
            known, names=known.names | record.names, digests=known.digests | record.digests
        )
    found[record.id] = record


def _own_architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _in_index(
    files: ImageFiles, index: dict[str, Any], architecture: str, *, depth: int
) -> Iterator[ImageRecord]:
    entries = index["manifests"]
    if depth > _MAX_DEPTH or len(entries) > _MAX_ENTRIES:
        raise DamagedImage("its index is too large")
    for entry in entries:
        stated = entry.get("platform") or {}
        if stated.get("os", "linux") != "linux":
            continue
        if stated.get("architecture", architecture) != architecture:
            continue
        digest = entry["digest"]
        document = _json(read_document(files, blob_name(digest), digest))
        notes = entry.get("annotations") or {}
        names = frozenset(notes[key] for key in (_REF_NAME, _FULL_NAME) if notes.get(key))
        if "manifests" in document:
            inner = list(_in_index(files, document, architecture, depth=depth + 1))
            # Of several variants of this architecture the first is the best.
            images = inner[:1]
        elif "layers" in document and "config" in document:
            image = _of_manifest(files, document, architecture)
            images = [] if image is None else [image]
        else:
            continue  # something else that a registry stores
        for image in images:
            yield replace(
                image, names=image.names | names, digests=image.digests | frozenset({digest})
            )


def _of_manifest(
    files: ImageFiles, manifest: dict[str, Any], architecture: str
) -> ImageRecord | None:
    digest = manifest["config"]["digest"]
    config = _json(read_document(files, blob_name(digest), digest))
    blobs = [(blob_name(layer["digest"]), layer["digest"]) for layer in manifest["layers"]]
    if "rootfs" not in config:
        return None  # an artifact that is no image
    return _record(digest, config, blobs, architecture)


def _saved_by_docker(files: ImageFiles, architecture: str) -> Iterator[ImageRecord]:
    for entry in json.loads(read_document(files, "manifest.json")):
        name = entry["Config"]
        content = read_document(files, name)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        stated = _ID_FILE.fullmatch(name)
        if stated is not None and digest != f"sha256:{stated[1]}":
            raise DamagedImage(f"{name} is damaged: its digest is {digest}")
        # What the layers are is known by the digests of their contents alone.
        blobs: list[tuple[str, str | None]] = [(layer, None) for layer in entry["Layers"]]
        record = _record(digest, _json(content), blobs, architecture)
        if record is not None:
            yield replace(record, names=frozenset(entry.get("RepoTags") or ()))


def _record(
    digest: str, config: dict[str, Any], blobs: Any, architecture: str
) -> ImageRecord | None:
    if config.get("architecture") not in (None, "", architecture):
        return None
    if config.get("os") not in (None, "", "linux"):
        return None
    contents = config["rootfs"]["diff_ids"]
    if len(contents) != len(blobs) or len(blobs) > MAX_LAYERS:
        raise DamagedImage(f"it names {len(blobs)} layers and {len(contents)} contents of layers")
    for content in contents:
        blob_name(content)
    settings = config.get("config") or {}
    return ImageRecord(
        id=digest,
        digests=frozenset({digest}),
        names=frozenset(),
        layers=tuple(
            Layer(name=name, digest=blob, content_digest=content)
            for (name, blob), content in zip(blobs, contents, strict=True)
        ),
        environment=tuple(_environment(settings.get("Env") or ())),
        user=str(settings.get("User") or ""),
    )


def _environment(lines: Any) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition("=")
        if name and "\0" not in line:
            yield name, value


def _json(content: bytes) -> dict[str, Any]:
    document = json.loads(content)
    if not isinstance(document, dict):
        raise DamagedImage("a document in it is no JSON object")
    return document
