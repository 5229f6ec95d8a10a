"""Placing results in a target directory."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wrapper.materialise import place_outputs


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "target" / "debug" / "deps"


def blob(tmp_path: Path, name: str, data: bytes) -> Path:
    """A file of the store: old and read-only."""
    path = tmp_path / name
    path.write_bytes(data)
    path.chmod(0o444)
    os.utime(path, (1, 1))
    return path


@pytest.fixture
def other_file_system() -> Iterator[Path]:
    """A directory on another file system than the temporary one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


def test_files_are_placed(tmp_path: Path, out: Path) -> None:
    data = os.urandom(3_000_000)
    before = time.time_ns() - 100_000_000
    placed = place_outputs(
        out_dir=str(out),
        files={
            "libx.rlib": (blob(tmp_path, "1", data), False),
            "app": (blob(tmp_path, "2", b"#!"), True),
            "empty": (blob(tmp_path, "3", b""), False),
        },
        dep_info=("x.d", b"x: y\n"),
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "libx.rlib": data,
        "app": b"#!",
        "empty": b"",
        "x.d": b"x: y\n",
    }
    for name, st in placed.items():
        now = os.stat(out / name)
        assert (st.st_ino, st.st_mtime_ns, st.st_size) == (now.st_ino, now.st_mtime_ns, now.st_size)
        assert st.st_mtime_ns >= before
        assert st.st_nlink == 1
        assert bool(st.st_mode & 0o111) == (name == "app")
        assert st.st_mode & 0o200


def test_what_was_given_attributes_is_copied(tmp_path: Path, out: Path) -> None:
    """A program in `target/` that was given capabilities is the cache's file: the next has none."""
    plain, marked = blob(tmp_path, "1", b"a"), blob(tmp_path, "2", b"b")
    os.setxattr(marked, "user.mark", b"mine")
    placed = place_outputs(
        out_dir=str(out), files={"plain": (plain, True), "marked": (marked, True)},
        dep_info=("x.d", b""), linked={"plain", "marked"},
    )  # fmt: skip
    assert placed["plain"].st_ino == plain.stat().st_ino
    assert placed["marked"].st_ino != marked.stat().st_ino
    assert os.listxattr(out / "marked") == []


def test_the_umask_takes_its_part(tmp_path: Path, out: Path) -> None:
    old = os.umask(0o027)
    try:
        placed = place_outputs(
            out_dir=str(out),
            files={"a": (blob(tmp_path, "1", b"a"), False), "b": (blob(tmp_path, "2", b"b"), True)},
            dep_info=None,
        )
    finally:
        os.umask(old)
    assert placed["a"].st_mode & 0o777 == 0o640
    assert placed["b"].st_mode & 0o777 == 0o750


def test_an_old_file_is_replaced_and_not_written_to(tmp_path: Path, out: Path) -> None:
    """cargo hardlinks programs out of deps: those must keep what they are."""
    out.mkdir(parents=True)
    (out / "app").write_bytes(b"old")
    (out / "app").chmod(0o555)
    link = tmp_path / "app"
    os.link(out / "app", link)
    with open(out / "app", "rb") as running:
        place_outputs(
            out_dir=str(out), files={"app": (blob(tmp_path, "1", b"new"), True)}, dep_info=None
        )
        assert running.read() == b"old"
    assert link.read_bytes() == b"old"
    assert (out / "app").read_bytes() == b"new"


def test_the_store_keeps_its_file_when_the_user_changes_theirs(tmp_path: Path, out: Path) -> None:
    source = blob(tmp_path, "1", b"shared")
    place_outputs(out_dir=str(out), files={"a": (source, False)}, dep_info=None)
    with open(out / "a", "r+b") as file:
        file.write(b"STRIPPED")
    assert source.read_bytes() == b"shared"
    assert source.stat().st_mtime == 1


def test_dep_info_is_not_newer_than_the_outputs(tmp_path: Path, out: Path) -> None:
    placed = place_outputs(
        out_dir=str(out), files={"a": (blob(tmp_path, "1", b"a"), False)}, dep_info=("a.d", b"")
    )
    assert placed["a.d"].st_mtime_ns <= placed["a"].st_mtime_ns


def test_from_another_file_system(other_file_system: Path, out: Path) -> None:
    """The cache in the home directory, the target directory on a disk of its own."""
    data = os.urandom(200_000)
    source = blob(other_file_system, "1", data)
    place_outputs(out_dir=str(out), files={"a": (source, False)}, dep_info=None)
    assert (out / "a").read_bytes() == data


def test_a_source_that_is_gone_leaves_nothing_behind(tmp_path: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "a").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        place_outputs(out_dir=str(out), files={"a": (tmp_path / "none", False)}, dep_info=None)
    assert [path.name for path in out.iterdir()] == ["a"]
    assert (out / "a").read_bytes() == b"old"


def test_nobody_sees_half_a_file(tmp_path: Path, out: Path) -> None:
    data = [bytes([n]) * 2_000_000 for n in range(2)]
    sources = [blob(tmp_path, str(n), content) for n, content in enumerate(data)]
    place_outputs(out_dir=str(out), files={"a": (sources[0], False)}, dep_info=None)
    stop = threading.Event()
    wrong: list[int] = []

    def watch() -> None:
        while not stop.is_set():
            found = (out / "a").read_bytes()
            if found not in data:
                wrong.append(len(found))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(60):
        place_outputs(out_dir=str(out), files={"a": (sources[number % 2], False)}, dep_info=None)
    stop.set()
    watcher.join()
    assert wrong == []


def test_a_file_with_one_name_is_given_a_second(tmp_path: Path, out: Path) -> None:
    source = blob(tmp_path, "1", b"metadata")
    before = time.time_ns() - 100_000_000
    placed = place_outputs(
        out_dir=str(out), files={"a": (source, False)}, dep_info=("a.d", b""), linked={"a"}
    )
    assert os.path.samefile(source, out / "a")
    assert placed["a"].st_mtime_ns >= max(before, placed["a.d"].st_mtime_ns)
    assert placed["a"].st_mode == placed["a.d"].st_mode
    assert placed["a"].st_mtime_ns == (out / "a").stat().st_mtime_ns


def test_a_file_with_two_names_is_copied(tmp_path: Path, out: Path) -> None:
    """Its times are those of an output in another target directory."""
    source = blob(tmp_path, "1", b"metadata")
    os.link(source, tmp_path / "other")
    place_outputs(
        out_dir=str(out), files={"a": (source, False)}, dep_info=("a.d", b""), linked={"a"}
    )
    assert not os.path.samefile(source, out / "a")
    assert (out / "a").read_bytes() == b"metadata"
    assert source.stat().st_mtime == 1
    assert {path.name for path in out.iterdir()} == {"a", "a.d"}


def test_no_link_between_file_systems(other_file_system: Path, out: Path) -> None:
    source = blob(other_file_system, "1", b"metadata")
    place_outputs(
        out_dir=str(out), files={"a": (source, False)}, dep_info=("a.d", b""), linked={"a"}
    )
    assert (out / "a").read_bytes() == b"metadata"
    assert source.stat().st_nlink == 1
