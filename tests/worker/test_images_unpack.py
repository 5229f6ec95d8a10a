"""Layers become a root file system, and nothing of them leaves it."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.image_maker import (
    Image,
    file,
    folder,
    hard_link,
    layer,
    link,
    special,
    write_layout,
)
from worker.images.errors import DamagedImage
from worker.images.files import LayoutFiles
from worker.images.manifest import read_images
from worker.images.unpack import Stopped, UnpackLimits, unpack
from worker.removal import remove_tree

OPAQUE = ".wh..wh..opq"
OURS = {"proc", "dev", "tmp", "build", "etc", "var"}


def unpacked(
    directory: Path, layers: Sequence[bytes], *, limits: UnpackLimits | None = None, **image: str
) -> tuple[Path, tuple[int, int]]:
    layout, root = directory / "layout", directory / "root"
    write_layout(layout, {"": Image(layers=layers, **image)})  # type: ignore[arg-type]
    files = LayoutFiles(layout)
    root.mkdir()
    user = unpack(
        files, read_images(files)[0], root,
        limits=limits or UnpackLimits(), should_stop=lambda: False,
    )  # fmt: skip
    return root, user


def tree(root: Path) -> dict[str, str]:
    """Path to kind, or content; without what every unpacked image has."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.split("/")[0] in OURS:
            continue
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "directory"
        else:
            found[name] = path.read_text()
    return found


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_what_a_layer_holds(tmp_path: Path, compression: str) -> None:
    entries = layer(
        folder("./"), folder("./a", 0o750), file("./a/f", b"text", 0o4755), file("/b", b"b", 0o600),
        link("s", "/a/f"), hard_link("h", "./a/f"), link("t", "../../etc/passwd"),
        special("null", tarfile.CHRTYPE), special("pipe", tarfile.FIFOTYPE),
        file("x" * 180 + "/" + "y" * 180, b"long"),
    )  # fmt: skip
    root, _ = unpacked(tmp_path, [entries], compression=compression)
    assert tree(root) == {
        "a": "directory", "a/f": "text", "b": "b", "h": "text", "s": "-> /a/f",
        "t": "-> ../../etc/passwd", "x" * 180: "directory", "x" * 180 + "/" + "y" * 180: "long",
    }  # fmt: skip
    assert (root / "h").stat().st_ino == (root / "a/f").stat().st_ino
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o750
    # No set-user-ID program on the worker's disk.
    assert stat.S_IMODE((root / "a/f").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "b").stat().st_mode) == 0o600
    assert (root / "a/f").stat().st_mtime == 1_000_000_000


def test_upper_layers_replace_and_hide(tmp_path: Path) -> None:
    lower = layer(
        folder("d"), file("d/old", b"1"), file("d/kept", b"1"), folder("e"), file("e/f", b"1"),
        file("gone", b"1"), file("turned", b"1"), folder("was/deep"), file("was/deep/f", b"1"),
        link("linked", "d"), folder("o/sub"), file("o/sub/low", b"1"), file("o/low", b"1"),
    )  # fmt: skip
    upper = layer(
        file("d/.wh.old"), file(".wh.gone"), file(".wh.e"), folder("turned"),
        file("turned/f", b"2"), file("was", b"2"), file("linked/through", b"2"),
        file("o/first", b"2"), file(f"o/{OPAQUE}"), file("o/sub/new", b"2"),
        file(".wh.absent"), file(".wh..wh.plnk"), folder("d"),
    )  # fmt: skip
    root, _ = unpacked(tmp_path, [lower, upper])
    assert tree(root) == {
        "d": "directory", "d/kept": "1", "d/through": "2", "linked": "-> d",
        "turned": "directory", "turned/f": "2", "was": "2",
        "o": "directory", "o/first": "2", "o/sub": "directory", "o/sub/new": "2",
    }  # fmt: skip


def test_whiteouts_spare_their_own_layer(tmp_path: Path) -> None:
    lower = layer(folder("d"), file("d/low", b"1"), folder("d/s"), file("d/s/low", b"1"))
    upper = layer(
        file("d/s/new", b"2"), file("d/new", b"2"), file("d/.wh.new"), file(f"d/{OPAQUE}"),
        file("n", b"2"), file(".wh.n"),
    )  # fmt: skip
    root, _ = unpacked(tmp_path, [lower, upper])
    assert tree(root) == {
        "d": "directory", "d/new": "2", "d/s": "directory", "d/s/new": "2", "n": "2",
    }  # fmt: skip


def test_links_lead_nowhere_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    here = str(outside)
    entries = layer(
        link("abs", here), file("abs/made", b"x"), link("up", "../../../.."),
        file(f"up{here}/made2", b"x"), link("a", "b"), folder("b"), link("b/c", f"/../..{here}"),
        file("a/c/made3", b"x"), link("file", f"{here}/secret"), file("file", b"replaced"),
    )  # fmt: skip
    root, _ = unpacked(tmp_path, [entries])
    assert {path.name for path in outside.iterdir()} == {"secret"}
    assert (outside / "secret").read_text() == "secret"
    # The links are what they were; what went through them stayed below the root.
    assert sorted(p.name for p in (root / here.lstrip("/")).iterdir()) == ["made", "made2", "made3"]
    assert (root / "file").read_text() == "replaced"


BAD_LAYERS = {
    "leads out": layer(file("../escaped", b"x")),
    "leads out of": layer(file("a/../../escaped", b"x")),
    "which is no file": layer(hard_link("h", "/etc/absent")),
    "leads out of the image": layer(hard_link("h", "../../etc/passwd")),
    "too many symbolic links": layer(link("a", "b"), link("b", "a"), file("a/f", b"x")),
    "goes through a file": layer(file("f", b"x"), file("f/g", b"x")),
    "hides nothing": layer(file(".wh.")),
    "hides nothing ": layer(file(".wh...")),
    "nested too deeply": layer(file("d/" * 300 + "f", b"x")),
    "File name too long": layer(file("n" * 300, b"x")),
    "no tar archive": layer(file("f", b"x"))[:1024] + b"garbage" * 200,
    "damaged": layer(file("f", b"x" * 5000))[:2000],
    "is damaged": b"",
}


@pytest.mark.parametrize("what", BAD_LAYERS)
def test_what_no_image_may_hold(tmp_path: Path, what: str) -> None:
    with pytest.raises(DamagedImage, match=what.strip()):
        unpacked(tmp_path, [BAD_LAYERS[what]])
    assert not (tmp_path / "escaped").exists()


def test_absurd_headers_take_no_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 8 * 1024**3
    with pytest.raises(DamagedImage, match="absurd"):
        unpacked(tmp_path, [header.tobuf(tarfile.GNU_FORMAT) + bytes(4096)])


def test_images_are_bounded(tmp_path: Path) -> None:
    big = layer(file("a", bytes(600_000)), file("b", bytes(600_000)))
    with pytest.raises(DamagedImage, match="larger than"):
        unpacked(tmp_path / "1", [big], limits=UnpackLimits(bytes=1_000_000))
    with pytest.raises(DamagedImage, match="more files"):
        unpacked(tmp_path / "2", [big], limits=UnpackLimits(entries=1))
    with pytest.raises(DamagedImage, match="larger than"):
        unpacked(tmp_path / "3", [big, big], limits=UnpackLimits(bytes=2_000_000))


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("damage", ["cut", "bit", "more"])
def test_a_damaged_layer_is_found(tmp_path: Path, compression: str, damage: str) -> None:
    image = Image(layers=[layer(file("f", os.urandom(20_000)))], compression=compression)
    layout, root = tmp_path / "layout", tmp_path / "root"
    write_layout(layout, {"": image})
    files = LayoutFiles(layout)
    record = read_images(files)[0]
    path = layout / record.layers[0].name
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-2000:]
    elif damage == "bit":
        content[len(content) // 2] ^= 1
    else:
        content += b"\0" * 512
    path.write_bytes(content)
    root.mkdir()
    with pytest.raises(DamagedImage, match="layer blobs/sha256/"):
        unpack(files, record, root, limits=UnpackLimits(), should_stop=lambda: False)


def test_the_content_is_compared_as_well(tmp_path: Path) -> None:
    image = Image(layers=[layer(file("f", b"1"))])
    wrong = {"rootfs": {"diff_ids": [f"sha256:{'0' * 64}"]}}
    image.config = wrong
    write_layout(tmp_path / "layout", {"": image})
    files = LayoutFiles(tmp_path / "layout")
    (tmp_path / "root").mkdir()
    with pytest.raises(DamagedImage, match="content of layer"):
        unpack(
            files, read_images(files)[0], tmp_path / "root",
            limits=UnpackLimits(), should_stop=lambda: False,
        )  # fmt: skip


def test_unpacking_can_be_stopped(tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", {"": Image(layers=[layer(file("f"), file("g"))])})
    files = LayoutFiles(tmp_path / "layout")
    (tmp_path / "root").mkdir()
    with pytest.raises(Stopped):
        unpack(
            files, read_images(files)[0], tmp_path / "root",
            limits=UnpackLimits(), should_stop=lambda: True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0)), ("0", (0, 0)), ("root", (0, 0)), ("tool", (12, 34)), ("12", (12, 34)),
        ("99", (99, 0)), ("99:77", (99, 77)), ("tool:staff", (12, 50)), ("absent", (0, 0)),
        ("99999999999", (0, 0)),
    ],
)  # fmt: skip
def test_the_image_names_its_user(tmp_path: Path, user: str, expected: tuple[int, int]) -> None:
    etc = layer(
        file("etc/passwd", b"root:x:0:0::/:/bin/sh\nbad\ntool:x:12:34::/:/bin/sh\n"),
        file("etc/group", b"staff:x:50:\n"),
    )
    assert unpacked(tmp_path, [etc], user=user)[1] == expected


def test_what_sandboxes_mount_on_is_there(tmp_path: Path) -> None:
    entries = layer(
        link("tmp", "/etc"), file("proc", b"x"), file("etc/hosts", b"1.2.3.4 own\n"),
        link("etc/resolv.conf", "/run/x"), folder("var/tmp"), file("var/tmp/f", b"x"),
    )  # fmt: skip
    root, _ = unpacked(tmp_path, [entries])
    for name in ("proc", "dev", "tmp", "build"):
        assert (root / name).is_dir() and not (root / name).is_symlink()
    assert (root / "etc/resolv.conf").read_bytes() == b""
    assert (root / "etc/hosts").read_bytes() == b"1.2.3.4 own\n"
    assert os.readlink(root / "var/tmp") == "/tmp"


_NAMES = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", ".wh.a", OPAQUE]), min_size=1, max_size=4
)
_ENTRIES = st.lists(
    st.one_of(
        st.builds(lambda n: file("/".join(n), b"x"), _NAMES),
        st.builds(lambda n: folder("/".join(n)), _NAMES),
        st.builds(lambda n, t: link("/".join(n), "/".join(t)), _NAMES, _NAMES),
        st.builds(lambda n, t: hard_link("/".join(n), "/".join(t)), _NAMES, _NAMES),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(layers=st.lists(_ENTRIES, max_size=3))
def test_no_layer_reaches_outside(
    tmp_path_factory: pytest.TempPathFactory,
    layers: list[list[tuple[tarfile.TarInfo, bytes]]],
) -> None:
    base = tmp_path_factory.mktemp("image")
    for name in ("a", "b"):
        (base / name).write_text("outside")
    with contextlib.suppress(DamagedImage):
        unpacked(base, [layer(*entries) for entries in layers])
    assert {path.name for path in base.iterdir()} == {"a", "b", "layout", "root"}
    assert [(base / name).read_text() for name in ("a", "b")] == ["outside", "outside"]
    assert all((base / name).stat().st_nlink == 1 for name in ("a", "b"))
    remove_tree(base)
