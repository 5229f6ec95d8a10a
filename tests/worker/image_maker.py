"""Container images that tests write: layers, OCI layouts, and both kinds of tarball."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import platform
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from tests.worker.test_file_system_roots import small_system

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def file(name: str, content: bytes = b"", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), mode, 1_000_000_000
    return entry, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


def folder(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    entry, _ = special(name, tarfile.DIRTYPE)
    entry.mode = mode
    return entry, b""


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return special(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return special(name, tarfile.LNKTYPE, target)


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A layer, not compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@functools.lru_cache(maxsize=1)
def shell_layer() -> bytes:
    """A shell and a few programs of this machine, with their libraries."""
    system = small_system()
    names = [folder("etc"), folder("tmp", 0o1777), folder("root", 0o700)]
    programs = [file(name, data, 0o755) for name, data in sorted(system.executables.items())]
    passwd = b"root:x:0:0::/root:/bin/sh\ntool:x:1234:4321::/:/bin/sh\n"
    return layer(*names, *programs, file("etc/passwd", passwd), file("etc/who", b"the image\n"))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(kw_only=True)
class Image:
    """An image to be written; `compression` is gzip, zstd or none, for all layers."""

    layers: Sequence[bytes]
    compression: str = "gzip"
    environment: Sequence[str] = ()
    user: str = ""
    architecture: str = ARCHITECTURE
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def configuration(self) -> bytes:
        document = {
            "architecture": self.architecture,
            "os": "linux",
            "config": {"Env": list(self.environment), "User": self.user, "WorkingDir": "/etc"},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in self.layers]},
        }
        return json.dumps(document | dict(self.config)).encode()

    @property
    def id(self) -> str:
        return digest_of(self.configuration)

    @property
    def manifest(self) -> bytes:
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"digest": self.id, "size": len(self.configuration)},
                "layers": [{"digest": digest_of(blob), "size": len(blob)} for blob in self.blobs()],
            }
        ).encode()

    def blobs(self) -> list[bytes]:
        return [_compressed(each, self.compression) for each in self.layers]


@functools.lru_cache(maxsize=32)
def _compressed(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, compresslevel=1, mtime=0)
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(data)
    return data


def write_layout(directory: Path, images: Mapping[str, Image]) -> None:
    """An OCI layout with images by their ref names; an empty name stands for none."""
    entries = []
    for name, image in images.items():
        for blob in (*image.blobs(), image.configuration, image.manifest):
            write_blob(directory, blob)
        entry: dict[str, Any] = {
            "mediaType": MANIFEST,
            "digest": digest_of(image.manifest),
            "size": len(image.manifest),
        }
        if name:
            entry["annotations"] = {"org.opencontainers.image.ref.name": name}
        entries.append(entry)
    write_index(directory, entries)


def write_index(directory: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
    (directory / "index.json").write_text(json.dumps(index))


def write_blob(directory: Path, blob: bytes) -> str:
    digest = digest_of(blob)
    path = directory / "blobs" / digest.replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blob)
    return digest


def write_oci_tarball(path: Path, images: Mapping[str, Image]) -> None:
    directory = path.with_suffix(".being-made")
    write_layout(directory, images)
    with tarfile.open(path, "w") as tar:
        tar.add(directory, arcname=".")
    shutil.rmtree(directory)


def write_docker_tarball(path: Path, images: Mapping[str, Image]) -> None:
    """As `docker save` wrote it before it wrote OCI layouts; a repeated layer is a link."""
    with tarfile.open(path, "w") as tar:
        manifest = []
        for name, image in images.items():
            config = f"{image.id.removeprefix('sha256:')}.json"
            tar.addfile(*_member(config, image.configuration))
            layers = []
            for number, each in enumerate(image.layers):
                layers.append(f"{image.id[-12:]}-{number}/layer.tar")
                first = image.layers.index(each)
                if first < number:
                    target = f"../{image.id[-12:]}-{first}/layer.tar"
                    tar.addfile(special(layers[-1], tarfile.SYMTYPE, target)[0])
                else:
                    tar.addfile(*_member(layers[-1], each))
            tags = [name] if name else None
            manifest.append({"Config": config, "RepoTags": tags, "Layers": layers})
        tar.addfile(*_member("manifest.json", json.dumps(manifest).encode()))


def _member(name: str, content: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    entry, _ = file(name, content)
    return entry, io.BytesIO(content)
