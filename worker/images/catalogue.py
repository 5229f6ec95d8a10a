"""The images directory of a worker: which images its layouts and tarballs hold."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remote_apis.container_image import ImageReference, parse_image, path_key
from remote_apis.errors import InvalidRequest
from worker.images.errors import DamagedImage
from worker.images.files import ImageFiles, LayoutFiles, TarFiles
from worker.images.manifest import ImageRecord, read_images

_LOG = logging.getLogger(__name__)
_MAX_DEPTH = 8
_MAX_DIRECTORIES = 10_000
_INDEXES = ("index.json", "manifest.json")
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlace:
    """A layout or tarball, and the images in it; `problem` says why it has none."""

    path: Path
    stamp: _Stamp
    images: tuple[ImageRecord, ...] = ()
    problem: str = ""

    def open(self) -> ImageFiles:
        """Its files. Raises DamagedImage, OSError."""
        return LayoutFiles(self.path) if self.path.is_dir() else TarFiles(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """An image and where it is."""

    place: ImagePlace
    image: ImageRecord


class ImageCatalogue:
    """Looks images up by the canonical form of their references (`remote_apis.container_image`).

    Below `directory` every OCI layout (a directory with `oci-layout`, or with an index) and every
    `*.tar` counts. An image has the names and tags that are written in it; besides, where it is
    makes a name: `DIR/debian` or `DIR/debian.tar` is `debian`, `DIR/quay.io/group/tool` is
    `quay.io/group/tool`, with the tags written in it, `latest` where there is none, or with the
    tag in a name such as `debian:12.tar`. It is also found by its path, by the digest of its
    manifest or index, and by its image id. Of two with one name the first by path counts.

    All methods block, may be called from any thread, and look at the disk for what has changed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._places: dict[Path, ImagePlace] = {}
        self._found: dict[str, FoundImage | ImagePlace] = {}

    @property
    def directory(self) -> Path:
        """Where the images are."""
        return self._directory

    def scan(self) -> frozenset[str]:
        """Look at everything that is new or changed. Returns the canonical names of all images.

        Damaged ones are among them, so that who asks for one learns what is wrong with it. Raises
        OSError.
        """
        with self._lock:
            return self._scan()

    def find(self, reference: ImageReference) -> FoundImage | None:
        """The image that a reference means, None when there is none.

        Raises DamagedImage when it is there and cannot be read, OSError.
        """
        with self._lock:
            found = self._found.get(reference.canonical)
            place = found.place if isinstance(found, FoundImage) else found
            if place is None or _stamp(place.path) != place.stamp:
                self._scan()
                found = self._found.get(reference.canonical)
        if isinstance(found, ImagePlace):
            raise DamagedImage(f"{found.path}: {found.problem}")
        return found

    def image_ids(self) -> frozenset[str]:
        """The ids of all images that can be read, as of the latest look."""
        with self._lock:
            return frozenset(i.id for place in self._places.values() for i in place.images)

    def _scan(self) -> frozenset[str]:
        places: dict[Path, ImagePlace] = {}
        for path in sorted(_candidates(self._directory)):
            stamp = _stamp(path)
            known = self._places.get(path)
            places[path] = known if known and known.stamp == stamp else _look(path, stamp)
        self._places = places
        found: dict[str, FoundImage | ImagePlace] = {}
        for place in places.values():
            for image in place.images:
                each = FoundImage(place=place, image=image)
                for key in _keys(self._directory, place, image):
                    self._enter(found, key, each)
            if place.problem:
                for key in _keys(self._directory, place, None):
                    found.setdefault(key, place)
        self._found = found
        return frozenset(found)

    @staticmethod
    def _enter(found: dict[str, FoundImage | ImagePlace], key: str, new: FoundImage) -> None:
        old = found.setdefault(key, new)
        if isinstance(old, ImagePlace):
            found[key] = new
        elif old.image.id != new.image.id:
            _LOG.warning("%s is in %s and in %s: the first counts", key, old.place.path,
                         new.place.path)  # fmt: skip


def _candidates(directory: Path) -> Iterator[Path]:
    """Layouts and tarballs below a directory, links followed."""
    pending, seen = [(directory.absolute(), 0)], 0
    while pending:
        here, depth = pending.pop()
        seen += 1
        if seen > _MAX_DIRECTORIES:
            raise InvalidRequest(f"{directory} has more than {_MAX_DIRECTORIES} directories")
        for path in here.iterdir():
            if path.is_dir():
                if (path / "oci-layout").exists() or (path / "index.json").exists():
                    yield path
                elif depth < _MAX_DEPTH:
                    pending.append((path, depth + 1))
            elif path.name.endswith(".tar") and path.is_file():
                yield path


def _look(path: Path, stamp: _Stamp) -> ImagePlace:
    place = ImagePlace(path=path, stamp=stamp)
    try:
        return ImagePlace(path=path, stamp=stamp, images=tuple(read_images(place.open())))
    except (DamagedImage, OSError) as error:
        _LOG.warning("image %s cannot be used: %s", path, error)
        return ImagePlace(path=path, stamp=stamp, problem=str(error))


def _stamp(path: Path) -> _Stamp:
    """Changes whenever the images at a path do."""
    files = [path / name for name in _INDEXES] if path.is_dir() else [path]
    stamps = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def _keys(directory: Path, place: ImagePlace, image: ImageRecord | None) -> Iterator[str]:
    """The canonical references by which an image is found; what is no name is left out."""
    path = os.fspath(place.path)
    relative = os.path.relpath(path, directory.absolute()).removesuffix(".tar")
    yield path_key(path)
    yield from _name(relative)
    if image is None:
        return
    yield image.id
    yield from image.digests
    for name in image.names:
        yield path_key(f"{path}:{name}")
        if "/" in name or ":" in name:
            yield from _name(name)
        else:
            yield from _name(f"{relative}:{name}")


def _name(text: str) -> Iterator[str]:
    try:
        reference = parse_image(text)
    except InvalidRequest:
        return
    yield reference.canonical
