"""What a run leaves in OUT_DIR is stored and put back as it was, with the paths of the place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.wrapper.test_build_script_reads import roots_of
from wrapper.build_scripts.outputs import (
    NotStorable,
    empty_directory,
    empty_tree,
    stamps,
    take_outputs,
)
from wrapper.build_scripts.placing import SMALL, put_outputs
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.snapshot import Source
from wrapper.preferred import PREFERRED
from wrapper.roots import Roots


def filled(directory: Path, roots: Roots) -> Path:
    """An OUT_DIR with things of every kind."""
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "empty" / "too").mkdir(parents=True)
    (directory / "deep" / "er" / "file").write_bytes(b"\0\xff")
    (directory / "program").write_text("#!/bin/sh\n")
    (directory / "program").chmod(0o755)
    notes = directory / "build" / "CMakeFiles" / "x.dir" / "flags.make"
    notes.parent.mkdir(parents=True)
    notes.write_text(f"C_INCLUDES = -I{roots.workspace}/include\n")
    (directory / "build" / "install_manifest.txt").write_text(f"{roots.workspace}/x")
    (directory / "made.pc").write_text(f"prefix={roots.workspace}/x\n")
    (directory / "build" / "made-config").write_text(f"#!/bin/sh\nprefix={roots.workspace}/x\n")
    (directory / "within").symlink_to("deep/er")
    (directory / "out").symlink_to(f"{roots.package}/src")
    return directory


def seen(directory: Path) -> dict[str, str]:
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "directory"
        else:
            found[name] = f"{os.access(path, os.X_OK)} {path.read_bytes()!r}"
    return found


def stored(directory: Path, blobs: dict[Digest, Source]) -> Callable[[Digest], str]:
    """The blobs as files; where each is."""
    directory.mkdir()
    for digest, source in blobs.items():
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        (directory / digest.hash).write_bytes(data)
    return lambda digest: str(directory / digest.hash)


def test_another_place_has_the_same_with_its_own_paths(tmp_path: Path) -> None:
    alice = roots_of(str(tmp_path / "a"), str(tmp_path / "a" / "ws"))
    bob = roots_of(str(tmp_path / "b"), str(tmp_path / "b" / "other" / "place"))
    first = filled(tmp_path / "first", alice)
    result, blobs = take_outputs(str(first), FileDigests(PREFERRED), alice)
    assert len(result.output_files) == 6
    assert empty_tree(result) is not None
    where = stored(tmp_path / "blobs", blobs)
    for roots, name in ((alice, "again"), (bob, "elsewhere")):
        (tmp_path / name).mkdir()
        placed = put_outputs(str(tmp_path / name), result, PREFERRED, where, roots)
        assert seen(tmp_path / name) == seen(filled(tmp_path / f"{name} wanted", roots))
        # what has this place's paths in it is no blob
        found = {(st.st_ino, digest) for st, digest in placed}
        files = (tmp_path / name / "program", tmp_path / name / "deep" / "er" / "file")
        assert found == {(os.stat(f).st_ino, Digest.of(f.read_bytes(), PREFERRED)) for f in files}


@pytest.mark.parametrize(
    ("data", "instead"),
    [(b"small", None), (b"small", b"SMALL"), (b"small", b"smal"), (b"small", b"smaller"),
     (b"l" * (SMALL + 1), None)],
    ids=["gone", "other bytes", "shorter", "longer", "a large one that is gone"],
)  # fmt: skip
def test_nothing_is_put_back_of_a_result_with_a_damaged_blob(
    tmp_path: Path, data: bytes, instead: bytes | None
) -> None:
    out, blobs = tmp_path / "place" / "out", tmp_path / "blobs"
    out.mkdir(parents=True)
    fine, digest = Digest.of(b"", PREFERRED), Digest.of(data, PREFERRED)
    where = stored(blobs, {fine: b"", digest: data})
    result = re_pb.ActionResult()
    for name, each in (("out/a", fine), ("out/b", digest)):
        result.output_files.add(path=name, digest=each.to_message())
    (blobs / digest.hash).unlink()
    if instead is not None:
        (blobs / digest.hash).write_bytes(instead)
    with pytest.raises((BlobNotFound, FileNotFoundError)):
        put_outputs(str(out), result, PREFERRED, where, roots_of())
    assert list(out.iterdir()) == []
    assert list((tmp_path / "place").iterdir()) == [out]


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "place" / "out"
    out.mkdir(parents=True)
    (out / "other").touch()
    with pytest.raises(OSError, match="not empty"):
        put_outputs(str(out), re_pb.ActionResult(), PREFERRED, lambda _: "", roots_of())
    assert [path.name for path in (tmp_path / "place").rglob("*")] == ["out", "other"]


def test_no_way_leads_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "place" / "out").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    result = re_pb.ActionResult()
    result.output_symlinks.add(path="out/link", target=str(tmp_path / "elsewhere"))
    result.output_symlinks.add(path="out/link/x", target="/")
    with pytest.raises(FileExistsError):
        put_outputs(str(tmp_path / "place" / "out"), result, PREFERRED, lambda _: "", roots_of())
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("path", ["out/../x", "out//x", "elsewhere/x", "out", "/x", "out/."])
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    for kind in ("output_files", "output_symlinks", "output_directories"):
        result = re_pb.ActionResult()
        added = getattr(result, kind).add(path=path)
        if kind == "output_files":
            added.digest.CopyFrom(Digest.of(b"", PREFERRED).to_message())
        with pytest.raises(OSError, match="not in OUT_DIR"):
            put_outputs(str(tmp_path / "x"), result, PREFERRED, lambda _: "/dev/null", roots_of())
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_not_stored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotStorable, match="it makes pipe, which is no file"):
        take_outputs(str(tmp_path), FileDigests(PREFERRED), roots_of())


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_has_no_name_in_reapi_is_not_stored(tmp_path: Path, kind: str) -> None:
    odd = os.fsdecode(b"\xff")
    if kind == "link":
        (tmp_path / "x").symlink_to(odd)
    elif kind == "file":
        (tmp_path / odd).touch()
    else:
        (tmp_path / odd).mkdir()
    with pytest.raises(NotStorable, match="it makes a file whose name is not UTF-8"):
        take_outputs(str(tmp_path), FileDigests(PREFERRED), roots_of())


def test_stamps_tell_what_was_changed(tmp_path: Path) -> None:
    out = filled(tmp_path / "out", roots_of())
    before = stamps(str(out))
    assert len(before) == 15
    assert stamps(str(out)) == before
    changes: list[Callable[[], object]] = [
        lambda: (out / "new").touch(),
        lambda: (out / "new").unlink(),
        lambda: os.utime(out / "program", (1, 1)),
        lambda: (out / "deep" / "er" / "file").write_text("another"),
        lambda: (out / "empty" / "too").rmdir(),
    ]
    seen_before = []
    for change in changes:
        seen_before.append(stamps(str(out)))
        change()
        assert stamps(str(out)) != seen_before[-1]
    shutil.rmtree(out)
    with pytest.raises(OSError, match="out"):
        stamps(str(out))


def test_emptying(tmp_path: Path) -> None:
    filled(tmp_path / "out", roots_of())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "kept").touch()
    (tmp_path / "out" / "beside").symlink_to(tmp_path / "deep")
    empty_directory(str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
    assert (tmp_path / "deep" / "kept").exists()
