"""Directories out of archives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard
from google.rpc import code_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web_origin import WebOrigin

from server.asset.archives import unpack
from server.asset.errors import OriginError, Reason
from tests.asset.asset_world import AssetServer, asset_server

FILES = {"top/a.txt": b"one", "top/sub/b.txt": b"two" * 1000, "top/empty": b""}
EXPECTED = {
    "top": "/",
    "top/a.txt": "one",
    "top/sub": "/",
    "top/sub/b.txt": "two" * 1000,
    "top/empty": "",
    "top/run*": "#!",
    "top/link": "-> sub/b.txt",
    "bare": "/",
}


def tar(files: Mapping[str, bytes] = FILES, *more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member, data in more:
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type = kind
    for key, value in fields.items():
        setattr(found, key, value)
    return found


def full_tar() -> bytes:
    return tar(
        {f"./{name}": data for name, data in FILES.items()},
        (member("top/run", mode=0o755, size=2), b"#!"),
        (member("top/link", tarfile.SYMTYPE, linkname="sub/b.txt"), b""),
        (member("bare/", tarfile.DIRTYPE), b""),
        (member("./", tarfile.DIRTYPE), b""),
    )


def full_zip(files: Mapping[str, bytes] = FILES) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for name, mode, text in (
            ("top/run", 0o100755, "#!"),
            ("top/link", stat.S_IFLNK | 0o777, "sub/b.txt"),
            ("bare/", 0o40755, ""),
        ):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, text)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


FORMS: dict[str, Callable[[], bytes]] = {
    "tar": full_tar,
    "tar.gz": lambda: gzip.compress(full_tar()),
    "tar.bz2": lambda: bz2.compress(full_tar()),
    "tar.xz": lambda: lzma.compress(full_tar()),
    "tar.xz of two streams": lambda: lzma.compress(full_tar()[:700]) + lzma.compress(
        full_tar()[700:]
    ),
    "tar.zst": lambda: zstd(full_tar()),
    "zip": full_zip,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_archive_becomes_the_same_tree(
    assets: AssetServer, web: WebOrigin, form: str
) -> None:
    response = await assets.fetch_directory(web.put("/archive", FORMS[form]()))
    assert await assets.tree(response) == EXPECTED
    assert not list(assets.directory.iterdir())


async def test_a_subdirectory_can_be_picked(assets: AssetServer, web: WebOrigin) -> None:
    url = web.put("/archive", full_tar())
    response = await assets.fetch_directory(url, qualifiers={"directory": "top/sub"})
    assert await assets.tree(response) == {"b.txt": "two" * 1000}
    for absent in ("to", "top/a.txt", "top/sub/x"):
        response = await assets.fetch_directory(url, qualifiers={"directory": absent})
        assert response.status.code == code_pb2.NOT_FOUND


async def test_the_last_of_a_path_counts_and_hard_links_are_files(
    assets: AssetServer, web: WebOrigin
) -> None:
    data = tar(
        {"a": b"old"},
        (member("a", size=3), b"new"),
        (member("b", tarfile.LNKTYPE, linkname="./a"), b""),
    )
    response = await assets.fetch_directory(web.put("/archive", data))
    assert await assets.tree(response) == {"a": "new", "b": "new"}


BAD: dict[str, Callable[[], bytes]] = {
    "no archive": lambda: b"<html>not what you wanted</html>",
    "empty": lambda: b"",
    "leads up": lambda: tar({"../evil": b""}),
    "leads up inside": lambda: tar({"a/../../evil": b""}),
    "absolute": lambda: tar({"/etc/evil": b""}),
    "zip leads up": lambda: full_zip({"../evil": b"", "a/../b": b""}),
    "file and directory": lambda: tar({"a": b"", "a/b": b""}),
    "device": lambda: tar({}, (member("null", tarfile.CHRTYPE), b"")),
    "fifo": lambda: tar({}, (member("fifo", tarfile.FIFOTYPE), b"")),
    "hard link to nothing": lambda: tar({}, (member("a", tarfile.LNKTYPE, linkname="b"), b"")),
    "symlink to nothing": lambda: tar({}, (member("a", tarfile.SYMTYPE, linkname=""), b"")),
    "not UTF-8": lambda: tar({"evil": b""}).replace(b"evil", b"\xff\xfe\xfd\xfc"),
    "too deep": lambda: tar({"d/" * 400 + "f": b""}),
    "cut off": lambda: full_tar()[:2000],
    "cut off gzip": lambda: gzip.compress(full_tar())[:-20],
    "cut off xz": lambda: lzma.compress(full_tar())[:-20],
    "cut off zip": lambda: full_zip()[:-30],
    "damaged gzip": lambda: gzip.compress(full_tar())[:-8] + b"\0" * 8,
    "damaged header": lambda: full_tar()[:1024] + b"\x01" * 512 + full_tar()[1536:],
    "huge xz dictionary": lambda: lzma.compress(
        full_tar(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    ),
}


@pytest.mark.row(113)
@pytest.mark.parametrize("form", BAD)
async def test_a_bad_archive_is_aborted(assets: AssetServer, web: WebOrigin, form: str) -> None:
    response = await assets.fetch_directory(web.put("/archive", BAD[form]()))
    assert response.status.code == code_pb2.ABORTED, response
    assert response.status.message


@pytest.mark.parametrize("form", ["gzip", "zip", "zstd", "many"])
async def test_a_bomb_does_not_go_off(tmp_path: Path, web: WebOrigin, form: str) -> None:
    zeros = {"zeros": bytes(30_000_000)}
    data = {
        "gzip": lambda: gzip.compress(tar(zeros)),
        "zip": lambda: full_zip(zeros),
        "zstd": lambda: zstd(tar(zeros)),
        "many": lambda: gzip.compress(tar({f"{n}": b"" for n in range(2000)})),
    }[form]()
    assert len(data) < 1_000_000
    async with asset_server(tmp_path, max_bytes=20_000_000, max_entries=1000) as assets:
        response = await assets.fetch_directory(web.put("/archive", data))
        assert response.status.code == code_pb2.ABORTED
        assert assets.store.count == 0


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    size = 2**31
    header = member("x", tarfile.XHDTYPE, size=size).tobuf(tarfile.GNU_FORMAT)
    archive = tmp_path / "archive"
    with archive.open("wb") as file:
        file.write(header)
        file.truncate(size + 10_240)
    tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(OriginError):
            unpack(archive, tmp_path, max_bytes=2**40, max_entries=10)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 10


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.randoms(use_true_random=False))
def test_damage_anywhere_is_noticed_or_harmless(
    tmp_path: Path, form: str, chance: random.Random
) -> None:
    data = bytearray(FORMS[form]())
    for _ in range(chance.randrange(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(data))
    try:
        unpack(archive, tmp_path, max_bytes=10_000_000, max_entries=100)
    except OriginError as error:
        assert error.reason is Reason.ABORTED
