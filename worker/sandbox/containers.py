"""The one place that decides which images a worker offers, and in which sandbox an action runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from remote_apis.container_image import PROPERTY, ImageReference, canonical_image
from remote_apis.errors import FailedPrecondition, InvalidRequest
from worker.config import WorkerConfig
from worker.images.catalogue import ImageCatalogue
from worker.images.errors import DamagedImage
from worker.images.store import ImageStore, UnpackedImage
from worker.materialise import Owner
from worker.platform import PlatformWishes
from worker.sandbox.bubblewrap import BubblewrapSandbox
from worker.sandbox.container import ContainerSandbox, ContainerSettings
from worker.sandbox.engine import Engine, EngineImages, open_engine
from worker.sandbox.interface import Finished, ImageRoot, Sandbox, SandboxRequest
from worker.sandbox.other_root import ORDINARY_UID
from worker.sandbox.select import open_bubblewrap

ANY_IMAGE = "*"
"""What a worker offers whose engine pulls what it lacks."""


class Containers:
    """Sandboxes for actions, by what their platform asks for.

    An image that the operator gave as a property of the worker is what the worker itself runs in:
    such actions run as if they had asked for none. Others run through the engine, if there is one
    and the image has a name, else in bubblewrap from the images directory.
    """

    def __init__(
        self,
        config: WorkerConfig,
        plain: Sandbox,
        *,
        engine: EngineImages | None = None,
        store: ImageStore | None = None,
        bubblewrap: BubblewrapSandbox | None = None,
        stored: frozenset[str] = frozenset(),
    ) -> None:
        """`stored` are the canonical names of what `store` had at the start."""
        self._config = config
        self._plain = plain
        self._engine = engine
        self._store = store
        self._bubblewrap = bubblewrap
        self._stored = stored
        given = {value for name, value in config.properties if name == PROPERTY}
        self._own = {canonical_image(value) for value in given if value != ANY_IMAGE}

    def offers(self) -> Sequence[tuple[str, str]]:
        """The platform properties of the worker: the configured ones, and the images."""
        images = set(self._stored)
        if self._engine is not None:
            # Paths aside it takes every name there is.
            images = {ANY_IMAGE}
        return sorted({*self._config.properties, *((PROPERTY, image) for image in images)})

    async def sandbox(self, wishes: PlatformWishes) -> Sandbox:
        """Where an action runs; its image is at hand by then.

        Raises FailedPrecondition when this worker cannot have the image, InvalidRequest for a wish
        that is never granted, DamagedImage when the image is this worker's trouble.
        """
        image = wishes.image
        if image is None or image.canonical in self._own:
            return self._plain
        if self._engine is not None and image.engine_name is not None:
            return await self._in_container(self._engine, image, as_root=wishes.as_root)
        if self._store is None or self._bubblewrap is None:
            raise self._absent(
                image, "start it with --images DIR and an OCI layout or tarball of it there"
            )
        try:
            unpacked = await self._store.get(image)
        except DamagedImage as error:
            raise DamagedImage(
                f"container-image {image.text!r} cannot be used: {error}; put it there anew"
            ) from error
        if unpacked is None:
            raise self._absent(
                image, f"put an OCI layout or tarball of it into {self._store.catalogue.directory}"
            )
        return ImageSandbox(self._bubblewrap, unpacked, as_root=wishes.as_root)

    async def _in_container(
        self, images: EngineImages, image: ImageReference, *, as_root: bool
    ) -> Sandbox:
        engine: Engine = images.engine
        if as_root and not engine.is_rootless:
            raise InvalidRequest(
                f"dockerRunAsRoot is refused: {engine.kind} runs as root here, and so would the "
                "action; a worker with --images, or with podman without root, grants it"
            )
        settings = ContainerSettings(
            image=await images.image_id(image),
            limits=self._config.limits,
            as_root=as_root,
            # Never the machine's root, whatever actions without an image are.
            first_uid=(self._config.first_action_uid or ORDINARY_UID)
            if os.geteuid() == 0
            else None,
        )
        return ContainerSandbox(engine, settings)

    def _absent(self, image: ImageReference, advice: str) -> Exception:
        said = f"container-image {image.text!r}: this worker has no such image; {advice}"
        offered = {value for name, value in self.offers() if name == PROPERTY}
        if offered & {image.canonical, ANY_IMAGE}:
            # It was this worker that promised it; another one may well have it.
            return DamagedImage(f"{said}, or start the worker again so that it is not offered")
        return FailedPrecondition(said)


class ImageSandbox:
    """Sandbox by bubblewrap in an unpacked image (see `Sandbox`)."""

    def __init__(
        self, bubblewrap: BubblewrapSandbox, image: UnpackedImage, *, as_root: bool
    ) -> None:
        """`as_root`: as user 0, who has no privileges there either."""
        self._bubblewrap = bubblewrap
        self._image = image
        uid = image.uid or ORDINARY_UID
        user = (0, 0) if as_root else (uid, image.gid if image.uid else uid)
        self._root = ImageRoot(root=image.root, uid=user[0], gid=user[1])

    def inside(self, root: Path, *, is_file_system: bool = False) -> str:
        return self._bubblewrap.inside(root)

    def owner(self, slot: int) -> Owner | None:
        return self._bubblewrap.owner(slot)

    async def run(self, request: SandboxRequest, *, timeout: float | None) -> Finished:
        inside = replace(
            request,
            image=self._root,
            is_file_system=False,
            environment={**self._image.environment, **request.environment},
        )
        return await self._bubblewrap.run(inside, timeout=timeout)


@asynccontextmanager
async def open_containers(
    config: WorkerConfig, plain: Sandbox, tether: int | None = None
) -> AsyncIterator[Containers]:
    """What `config` says of engine and images, beside the sandbox for actions without an image.

    Raises InvalidRequest when the engine or the directory cannot be used.
    """
    async with AsyncExitStack() as stack:
        images: EngineImages | None = None
        if config.container_engine != "none":
            engine = await open_engine(config.container_engine, config.directory)
            if engine is not None:
                images = EngineImages(engine)
                stack.push_async_callback(images.close)
        store: ImageStore | None = None
        bubblewrap: BubblewrapSandbox | None = None
        stored: frozenset[str] = frozenset()
        if config.images is not None:
            bubblewrap = (
                plain
                if isinstance(plain, BubblewrapSandbox)
                else await open_bubblewrap(config, tether)
            )
            store = ImageStore(config.directory / "images", ImageCatalogue(config.images))
            stack.push_async_callback(store.close)
            try:
                stored = store.open()
            except OSError as error:
                raise InvalidRequest(
                    f"--images {config.images}: {error.filename}: {error.strerror}"
                ) from error
        yield Containers(
            config, plain, engine=images, store=store, bubblewrap=bubblewrap, stored=stored
        )
