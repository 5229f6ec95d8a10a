"""The images directory: how images are named, kept, and found to be damaged."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_apis.container_image import parse_image
from tests.worker.image_maker import (
    ARCHITECTURE,
    INDEX,
    Image,
    digest_of,
    file,
    layer,
    write_blob,
    write_docker_tarball,
    write_index,
    write_layout,
    write_oci_tarball,
)
from worker.images.catalogue import ImageCatalogue
from worker.images.errors import DamagedImage
from worker.images.files import LayoutFiles
from worker.images.manifest import read_images
from worker.images.store import ImageStore, UnpackedImage

FOREIGN = "s390x"


def image(word: str, **more: object) -> Image:
    return Image(layers=[layer(file("word", word.encode()))], **more)  # type: ignore[arg-type]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    return path


@pytest.fixture
async def store(tmp_path: Path, images: Path) -> AsyncIterator[ImageStore]:
    store = ImageStore(tmp_path / "unpacked", ImageCatalogue(images))
    yield store
    await store.close()


async def word(store: ImageStore, text: str) -> str | None:
    """What the image that a reference means says of itself."""
    found = await store.get(parse_image(text))
    return None if found is None else (found.root / "word").read_text()


async def test_names_of_layouts(images: Path, store: ImageStore) -> None:
    write_layout(images / "debian", {"12": image("12"), "11": image("11")})
    write_layout(images / "plain", {"": image("plain")})
    write_layout(images / "quay.io" / "group" / "tool", {"": image("tool")})
    write_layout(images / "odd:v1", {"": image("odd")})
    write_layout(images / "full", {"gcr.io/p/own:3": image("own")})
    offered = store.open()
    expected = {
        "docker://debian:12": "12", "debian:11": "11", "docker://docker.io/library/debian:12": "12",
        "plain": "plain", "quay.io/group/tool": "tool", "odd:v1": "odd", "gcr.io/p/own:3": "own",
        f"oci:{images}/debian:11": "11", f"oci:{images}/plain": "plain", f"{images}/plain": "plain",
        image("12").id: "12", f"x/y@{digest_of(image('tool').manifest)}": "tool",
    }  # fmt: skip
    for text, said in expected.items():
        assert await word(store, text) == said, text
        assert parse_image(text).canonical in offered
    for absent in ("debian:10", "quay.io/group/other", "/etc/passwd", f"a@sha256:{'0' * 64}"):
        assert await word(store, absent) is None
        assert parse_image(absent).canonical not in offered


async def test_tarballs(images: Path, store: ImageStore) -> None:
    write_oci_tarball(images / "a.tar", {"1": image("a1"), "2": image("a2", compression="zstd")})
    write_docker_tarball(images / "b.tar", {"debian:12": image("12"), "": image("nameless")})
    write_docker_tarball(images / "c.tar", {"": image("c")})
    store.open()
    for text, said in {
        "a:2": "a2", f"oci-archive:{images}/a.tar:1": "a1", "debian:12": "12",
        f"docker-archive:{images}/c.tar": "c", "c": "c", image("nameless").id: "nameless",
    }.items():  # fmt: skip
        assert await word(store, text) == said, text


async def test_layers_that_occur_twice(images: Path, store: ImageStore) -> None:
    same = layer(file("word", b"same"))
    twice = Image(layers=[same, layer(file(".wh.word")), same])
    write_docker_tarball(images / "d.tar", {"d:1": twice})
    store.open()
    assert await word(store, "d:1") == "same"


async def test_an_index_of_several_machines(images: Path, store: ImageStore) -> None:
    here, there = image("here"), image("there", architecture=FOREIGN)
    layout = images / "multi"
    write_layout(layout, {"": here})
    entries = [
        {"digest": digest_of(each.manifest), "size": 1, "platform": {"architecture": machine}}
        for each, machine in ((there, FOREIGN), (here, ARCHITECTURE))
    ]
    inner = json.dumps({"mediaType": INDEX, "manifests": entries}).encode()
    write_index(layout, [{"mediaType": INDEX, "digest": write_blob(layout, inner), "size": 1}])
    store.open()
    # The blobs of the other machine's are not even there.
    for text in ("multi", f"multi@{digest_of(inner)}", f"multi@{digest_of(here.manifest)}"):
        assert await word(store, text) == "here"


async def test_new_and_changed_images_are_found(images: Path, store: ImageStore) -> None:
    assert store.open() == frozenset()
    assert await word(store, "late") is None
    write_layout(images / "late", {"": image("first")})
    assert await word(store, "late") == "first"
    write_layout(images / "late", {"": image("second, and longer")})
    assert await word(store, "late") == "second, and longer"


async def test_what_is_wrong_is_said(images: Path, store: ImageStore) -> None:
    write_layout(images / "blob", {"": image("blob")})
    for path in (images / "blob/blobs/sha256").iterdir():
        if path.read_bytes()[:2] == b"\x1f\x8b":
            path.write_bytes(path.read_bytes() + b"x")
    write_layout(images / "lost", {"": image("lost")})
    (images / "lost/blobs/sha256" / image("lost").id[7:]).unlink()
    write_layout(images / "foreign", {"": image("foreign", architecture=FOREIGN)})
    (images / "text.tar").write_text("text")
    write_docker_tarball(images / "z.tar", {"": image("z")})
    (images / "z.tar").write_bytes(gzip.compress((images / "z.tar").read_bytes()))
    write_docker_tarball(images / "cut.tar", {"": image("cut")})
    os.truncate(images / "cut.tar", 1800)
    write_layout(images / "json", {"": image("json")})
    (images / "json/index.json").write_text('{"manifests": 7}')
    write_layout(images / "pipe", {"": image("pipe")})
    os.remove(images / "pipe/index.json")
    os.mkfifo(images / "pipe/index.json")
    offered = store.open()
    for name, what in {
        "blob": "is damaged", "lost": "No such file", "foreign": f"no image for {ARCHITECTURE}",
        "text": "text.tar", "z": "compressed with gzip", "cut": "cut.tar", "json": "malformed",
        "pipe": "no image",
    }.items():  # fmt: skip
        assert parse_image(name).canonical in offered
        with pytest.raises(DamagedImage, match=what) as caught:
            await store.get(parse_image(name))
        assert str(images / name) in str(caught.value)
    assert not list((store.catalogue.directory.parent / "unpacked").iterdir())


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["manifests", "digest", "platform", "annotations", "os", "config",
                             "layers", "rootfs", "diff_ids", "Config", "Layers", "RepoTags"]),
            inner, max_size=4,
        ),
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(index=_JSON, saved=_JSON, config=_JSON)
def test_any_document_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, index: object, saved: object, config: object
) -> None:
    directory = tmp_path_factory.mktemp("layout")
    blob = write_blob(directory, json.dumps(config).encode())
    if isinstance(index, dict) and isinstance(index.get("manifests"), list):
        index["manifests"].append({"digest": blob})
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "manifest.json").write_text(json.dumps(saved))
    with contextlib.suppress(DamagedImage):
        read_images(LayoutFiles(directory))


async def test_names_in_manifests_lead_nowhere(images: Path, store: ImageStore) -> None:
    (images / "x").mkdir()
    (images / "x/index.json").write_text('{"manifests": []}')
    entry = {"Config": "../../../../../../etc/hostname", "Layers": []}
    (images / "x/manifest.json").write_text(json.dumps([entry]))
    store.open()
    with pytest.raises(DamagedImage, match="No such file"):
        await store.get(parse_image("x"))


async def test_all_who_ask_share_one(images: Path, store: ImageStore) -> None:
    big = layer(*(file(f"d{n % 50}/f{n}", b"x") for n in range(3000)), file("word", b"big"))
    write_layout(images / "big", {"": Image(layers=[big])})
    store.open()
    asking = [asyncio.create_task(store.get(parse_image("big"))) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    found = await asyncio.gather(*asking[1:])
    assert len({each.root.stat().st_ino for each in found if each is not None}) == 1
    again = await store.get(parse_image("big"))
    assert again == found[0]
    assert asking[0].cancelled()


async def test_unpacked_images_are_kept_and_cleared(tmp_path: Path, images: Path) -> None:
    write_layout(images / "a", {"": image("a")})
    write_layout(images / "b", {"": image("b")})

    async def both() -> list[UnpackedImage | None]:
        store = ImageStore(tmp_path / "unpacked", ImageCatalogue(images))
        store.open()
        try:
            return [await store.get(parse_image(name)) for name in ("a", "b")]
        finally:
            await store.close()

    first = await both()
    (tmp_path / "unpacked" / "unpacking-x").mkdir()
    inodes = [each.root.stat().st_ino for each in first if each]
    second = await both()
    assert [each.root.stat().st_ino for each in second if each] == inodes
    assert len(list((tmp_path / "unpacked").iterdir())) == 2
    (images / "b" / "index.json").unlink()
    (images / "b" / "oci-layout").unlink()
    assert [each is None for each in await both()] == [False, True]
    assert len(list((tmp_path / "unpacked").iterdir())) == 1


async def test_closing_stops_what_is_being_unpacked(tmp_path: Path, images: Path) -> None:
    many = layer(*(file(f"d{n % 50}/f{n}", b"x") for n in range(20_000)))
    write_layout(images / "big", {"": Image(layers=[many])})
    store = ImageStore(tmp_path / "unpacked", ImageCatalogue(images))
    store.open()
    asking = asyncio.create_task(store.get(parse_image("big")))
    while not list((tmp_path / "unpacked").iterdir()):
        await asyncio.sleep(0.01)
    await store.close()
    with pytest.raises(DamagedImage, match="the worker ends"):
        await asking
    assert not list((tmp_path / "unpacked").iterdir())
