"""Unpacked images: each once, kept by its id as long as the images directory has it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from remote_apis.container_image import ImageReference
from worker.images.catalogue import FoundImage, ImageCatalogue
from worker.images.errors import DamagedImage
from worker.images.unpack import Stopped, UnpackLimits, unpack
from worker.removal import remove_tree

_ROOT = "root"
_SETTINGS = "image.json"
_UNPACKING = "unpacking-"
# Changes when what is made of an image does.
_FORM = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackedImage:
    """A root file system, never to be written to, and what the image says of running in it.

    `uid` and `gid` are those of the image's user; 0 when it names none.
    """

    root: Path
    environment: Mapping[str, str]
    uid: int
    gid: int


class ImageStore:
    """Root file systems below `directory`, which is nobody else's. Close it at the end.

    They appear whole, after they are on the disk. Those that are being unpacked when the worker
    is killed are removed at the next start, as are those of images that are no longer there.
    """

    def __init__(
        self, directory: Path, catalogue: ImageCatalogue, *, limits: UnpackLimits | None = None
    ) -> None:
        self._directory = directory
        self._catalogue = catalogue
        self._limits = limits or UnpackLimits()
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="images")
        self._tasks: dict[str, asyncio.Task[UnpackedImage]] = {}

    @property
    def catalogue(self) -> ImageCatalogue:
        """Where the images come from."""
        return self._catalogue

    def open(self) -> frozenset[str]:
        """Look at the images and clear away what is of no more use. Blocks.

        Returns the canonical names of the images. Raises OSError.
        """
        names = self._catalogue.scan()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        kept = {_directory_name(image) for image in self._catalogue.image_ids()}
        for path in self._directory.iterdir():
            if path.name not in kept or self._read(path) is None:
                remove_tree(path)
        return names

    async def close(self) -> None:
        """Stop unpacking; what was begun is removed."""
        self._stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        self._executor.shutdown()

    async def get(self, reference: ImageReference) -> UnpackedImage | None:
        """The image, unpacked by now; None when the images directory does not have it.

        Whoever asks for it while it is being unpacked waits for the same. Raises DamagedImage,
        saying what is wrong with it, and OSError.
        """
        found = await asyncio.to_thread(self._catalogue.find, reference)
        if found is None:
            return None
        key = _directory_name(found.image.id)
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(self._unpack_in_thread(key, found))
            # Also where nobody waits for it any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._tasks[key] = task
        # An action that is cancelled does not take it away from the others.
        return await asyncio.shield(task)

    async def _unpack_in_thread(self, key: str, found: FoundImage) -> UnpackedImage:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._kept_or_unpacked, key, found)
        finally:
            del self._tasks[key]

    def _kept_or_unpacked(self, key: str, found: FoundImage) -> UnpackedImage:
        path = self._directory / key
        kept = self._read(path)
        if kept is not None:
            return kept
        making = self._directory / f"{_UNPACKING}{key}"
        remove_tree(making)
        try:
            self._unpack(making, found)
            # Else a machine that loses power could keep the name and lose the files.
            os.sync()
            making.rename(path)
        except DamagedImage as error:
            raise DamagedImage(f"{found.place.path}: {error}") from error
        except Stopped:
            raise DamagedImage("the worker ends") from None
        finally:
            remove_tree(making)
        made = self._read(path)
        assert made is not None
        return made

    def _unpack(self, making: Path, found: FoundImage) -> None:
        root = making / _ROOT
        root.mkdir(parents=True)
        root.chmod(0o755)
        uid, gid = unpack(
            found.place.open(),
            found.image,
            root,
            limits=self._limits,
            should_stop=self._stop.is_set,
        )
        settings = {
            "form": _FORM,
            "environment": dict(found.image.environment),
            "uid": uid,
            "gid": gid,
        }
        (making / _SETTINGS).write_text(json.dumps(settings))

    def _read(self, path: Path) -> UnpackedImage | None:
        """What was unpacked to a path before, if it was."""
        try:
            settings = json.loads((path / _SETTINGS).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        if settings.get("form") != _FORM:
            return None
        return UnpackedImage(
            root=path / _ROOT,
            environment=settings["environment"],
            uid=settings["uid"],
            gid=settings["gid"],
        )


def _directory_name(image_id: str) -> str:
    return image_id.replace(":", "-")
