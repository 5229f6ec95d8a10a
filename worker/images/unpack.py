"""An image's root file system, from its layers to a directory that sandboxes can use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.images.errors import DamagedImage
from worker.images.files import ImageFiles
from worker.images.layers import LayerReader
from worker.images.manifest import ImageRecord
from worker.images.root import RootFileSystem

# What sandboxes mount over has to be there: an image is read-only by then.
_MOUNT_POINTS = ("proc", "dev", "tmp", "build")
_HOSTS = b"127.0.0.1 localhost\n::1 localhost\n"
_MAX_PASSWD = 1024 * 1024
_MAX_ID = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """How large an image may be: bytes and files of all layers together."""

    bytes: int = 64 * 1024**3
    entries: int = 2_000_000


class Stopped(Exception):
    """The worker ends; nobody waits for the image any more."""


def unpack(
    files: ImageFiles,
    image: ImageRecord,
    root: Path,
    *,
    limits: UnpackLimits,
    should_stop: Callable[[], bool],
) -> tuple[int, int]:
    """Make the root file system at `root`, an empty directory. Blocks.

    Returns the user and group that the image names, (0, 0) where it names none or root, or one
    that it does not know. Directories to mount on are made, /var/tmp leads to /tmp. Owners of
    files, extended attributes and devices are left out. Raises DamagedImage, OSError, Stopped.
    """
    made = RootFileSystem(root, max_entries=limits.entries)
    left = limits.bytes
    for layer in image.layers:
        made.begin_layer()
        with LayerReader(files, layer, max_bytes=left) as reader:
            for entry, content in reader.entries():
                if should_stop():
                    raise Stopped
                if entry.size > left:
                    raise DamagedImage("the image is larger than this worker unpacks")
                made.add(entry, content)
            reader.verify()
            left -= reader.size
    user = _user(made, image.user)
    made.begin_layer()
    for name in _MOUNT_POINTS:
        made.place_directory(name)
    made.place(["var", "tmp"], None, to="/tmp")
    made.place(["etc", "resolv.conf"], b"")
    if not made.read(["etc", "hosts"], 1):
        made.place(["etc", "hosts"], _HOSTS)
    made.finish()
    return user


def _user(root: RootFileSystem, text: str) -> tuple[int, int]:
    """`user`, `uid`, `user:group` or `uid:gid`, looked up in the image's own files."""
    name, _, group = text.partition(":")
    uid, gid = _id(name), 0
    for fields in _lines(root, "passwd"):
        if len(fields) > 3 and (fields[0] == name or (uid is not None and fields[2] == name)):
            uid, gid = _id(fields[2]), _id(fields[3]) or 0
            break
    if group:
        gid = _id(group) or 0
        for fields in _lines(root, "group"):
            if len(fields) > 2 and fields[0] == group:
                gid = _id(fields[2]) or 0
                break
    return (uid, gid) if uid else (0, 0)


def _lines(root: RootFileSystem, name: str) -> list[list[str]]:
    content = root.read(["etc", name], _MAX_PASSWD) or b""
    return [line.split(":") for line in content.decode(errors="replace").splitlines()]


def _id(text: str) -> int | None:
    if text.isascii() and text.isdecimal() and int(text) < _MAX_ID:
        return int(text)
    return None
