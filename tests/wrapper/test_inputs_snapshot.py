"""Snapshots of directories and the digests of their files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.inputs.file_digests import FileDigests, hash_file
from wrapper.inputs.hashing import FileIdentity, hash_mapped
from wrapper.inputs.snapshot import (
    MAX_FILES,
    NotSendable,
    RealPlaces,
    Skip,
    Snapshot,
    skip_in_out_dir,
    skip_in_package,
    skip_nothing,
    skip_probes_too,
    take_snapshot,
)

SHA256 = DigestFunction.SHA256
OLD = 1_000_000_000


@pytest.fixture
def files() -> FileDigests:
    return FileDigests(SHA256)


def write(path: Path, content: str = "x", mode: int = 0o644) -> Path:
    """A file that is old enough for its digest to be remembered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def read_back(snapshot: Snapshot) -> dict[str, str]:
    """What is in a snapshot, every blob checked: `path` → content, `path*` for a program,
    `path@` → a link's target, `path/` for an empty directory."""
    found: dict[str, str] = {}
    pending = [("", snapshot.root)]
    while pending:
        prefix, digest = pending.pop()
        message = re_pb.Directory.FromString(data_of(snapshot, digest))
        if not (message.files or message.directories or message.symlinks):
            found[prefix] = ""
        for file in message.files:
            mark = "*" if file.is_executable else ""
            data = data_of(snapshot, Digest.from_message(file.digest, SHA256))
            found[f"{prefix}{file.name}{mark}"] = data.decode()
        for link in message.symlinks:
            found[f"{prefix}{link.name}@"] = link.target
        for child in message.directories:
            below = Digest.from_message(child.digest, SHA256)
            pending.append((f"{prefix}{child.name}/", below))
    return found


def data_of(snapshot: Snapshot, digest: Digest) -> bytes:
    source = snapshot.blobs[digest]
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    assert Digest.of(data, SHA256) == digest
    return data


def snapshot_of(root: Path, files: FileDigests, skip: Skip = skip_nothing) -> dict[str, str]:
    return read_back(take_snapshot(str(root), files, skip))


def test_everything_is_taken(tmp_path: Path, files: FileDigests) -> None:
    write(tmp_path / "a.rs", "a")
    write(tmp_path / "bin" / "run", "#!", 0o755)
    write(tmp_path / "deep" / "er" / "b", "")
    (tmp_path / "empty" / "dir").mkdir(parents=True)
    assert snapshot_of(tmp_path, files) == {
        "a.rs": "a",
        "bin/run*": "#!",
        "deep/er/b": "",
        "empty/dir/": "",
    }


def test_links(tmp_path: Path, files: FileDigests) -> None:
    root = tmp_path / "root"
    outside = write(tmp_path / "outside" / "file", "content")
    write(root / "a", "a")
    write(root / "sub" / "b", "b")
    for name, target in {
        "inside": "a",
        "to-sub": "sub",
        "sub/up": "../a",
        "broken-inside": "nothing",
        "file-outside": str(outside),
        "relative-outside": "../outside/file",
        "directory-outside": str(outside.parent),
        "broken-outside": "/nonexistent/file",
        "loop": "loop",
    }.items():
        (root / name).symlink_to(target)
    found = snapshot_of(root, files)
    assert {name: value for name, value in found.items() if name != "loop@"} == {
        "a": "a",
        "sub/b": "b",
        "inside@": "a",
        "to-sub@": "sub",
        "sub/up@": "../a",
        "broken-inside@": "nothing",
        "file-outside": "content",
        "relative-outside": "content",
    }


def test_directories_elsewhere_in_the_workspace(tmp_path: Path, files: FileDigests) -> None:
    root = tmp_path / "ws" / "member"
    write(root / "src" / "lib.rs")
    write(tmp_path / "ws" / "shared" / "deep" / "x.rs", "shared")
    (tmp_path / "ws" / "shared" / "up").symlink_to("..")
    (tmp_path / "ws" / "shared" / "beside").symlink_to("../beside.txt")
    write(tmp_path / "ws" / "beside.txt", "beside")
    write(tmp_path / "ws" / "target" / "CACHEDIR.TAG")
    write(tmp_path / "ws" / "target" / "debug" / "x")
    write(tmp_path / "out" / "x")
    links = {"shared": "shared", "out": "../out", "ws": ".", "built": "target/debug"}
    for name, target in links.items():
        (root / "src" / name).symlink_to(f"../../{target}")
    taken = take_snapshot(str(root), files, skip_nothing, within=str(tmp_path / "ws"))
    assert read_back(taken) == {
        "src/lib.rs": "x",
        "src/shared/deep/x.rs": "shared",
        "src/shared/beside": "beside",
    }
    assert taken.followed == (str(tmp_path / "ws" / "shared"),)
    left = {os.path.relpath(path, root / "src") for path in taken.left_out}
    assert left == {"out", "ws", "built", "shared/up", "../../shared/up"}


def test_what_is_no_file_is_left_out(tmp_path: Path, files: FileDigests) -> None:
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path / "a", "a")
    assert snapshot_of(tmp_path, files) == {"a": "a"}


def test_a_package(tmp_path: Path, files: FileDigests) -> None:
    for name in (
        "Cargo.toml",
        "src/lib.rs",
        "src/target/mod.rs",
        "templates/x.html",
        ".hidden",
        ".git/HEAD",
        ".jj/x",
        ".hg/x",
        "node_modules/m/index.js",
        "target/CACHEDIR.TAG",
        "target/debug/deps/libx.rmeta",
        "odd-target/CACHEDIR.TAG",
        "unmarked/debug/deps/x.d",
        "nested/Cargo.toml",
        "nested/src/lib.rs",
    ):
        write(tmp_path / name)
    assert sorted(snapshot_of(tmp_path, files, skip_in_package(str(tmp_path / "unmarked")))) == [
        ".hidden",
        "Cargo.toml",
        "nested/Cargo.toml",
        "nested/src/lib.rs",
        "src/lib.rs",
        "src/target/mod.rs",
        "templates/x.html",
    ]


def test_an_out_dir(tmp_path: Path, files: FileDigests) -> None:
    for name in ("bindings.rs", "libx.a", "probe/x.rs", "probe.rs", "libp.rmeta", "p.d", "o/a.d"):
        write(tmp_path / name)
    write(tmp_path / "libprobe.rlib")
    kept = ["bindings.rs", "libx.a", "probe.rs"]
    found = [name for name in snapshot_of(tmp_path, files, skip_in_out_dir) if name[-1] != "/"]
    assert sorted(found) == sorted([*kept, "libprobe.rlib"])
    found = [name for name in snapshot_of(tmp_path, files, skip_probes_too) if name[-1] != "/"]
    assert sorted(found) == kept


def rewrite_with_the_same_time(root: Path) -> None:
    (root / "a").write_text("y")
    os.utime(root / "a", ns=(OLD, OLD))


def point_elsewhere(root: Path) -> None:
    (root / "l").unlink()
    (root / "l").symlink_to("sub/b")


Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {
    "content": lambda root: (root / "a").write_text("b"),
    "content of the same length and time": rewrite_with_the_same_time,
    "name": lambda root: (root / "a").rename(root / "b"),
    "mode": lambda root: (root / "a").chmod(0o755),
    "new file": lambda root: write(root / "sub" / "c"),
    "new directory": lambda root: (root / "d").mkdir(),
    "removed": lambda root: (root / "a").unlink(),
    "link": point_elsewhere,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(tmp_path: Path, files: FileDigests, change: str) -> None:
    write(tmp_path / "a")
    write(tmp_path / "sub" / "b")
    (tmp_path / "l").symlink_to("a")
    os.utime(tmp_path / "a", ns=(OLD, OLD))
    time.sleep(0.1)  # so that digests are remembered
    before = take_snapshot(str(tmp_path), files, skip_nothing)
    assert take_snapshot(str(tmp_path), files, skip_nothing).root == before.root
    CHANGES[change](tmp_path)
    assert take_snapshot(str(tmp_path), files, skip_nothing).root != before.root


def test_times_owners_and_places_do_not_count(tmp_path: Path, files: FileDigests) -> None:
    roots = []
    for name, mtime in (("one", 1), ("another place", 2)):
        write(tmp_path / name / "a", mode=0o600 if mtime == 1 else 0o664)
        write(tmp_path / name / "s" / "b")
        os.utime(tmp_path / name / "a", (mtime, mtime))
        roots.append(take_snapshot(str(tmp_path / name), files, skip_nothing).root)
    assert roots[0] == roots[1]


def test_too_many_files(tmp_path: Path, files: FileDigests) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / str(number)).touch()
    with pytest.raises(NotSendable, match=str(tmp_path)):
        take_snapshot(str(tmp_path), files, skip_nothing)


def test_a_directory_that_is_not_there(tmp_path: Path, files: FileDigests) -> None:
    with pytest.raises(FileNotFoundError):
        take_snapshot(str(tmp_path / "none"), files, skip_nothing)


def test_a_name_that_is_not_utf_8_is_no_crash(tmp_path: Path, files: FileDigests) -> None:
    """REAPI names are UTF-8; the documented errors are OSError and NotSendable."""
    write(tmp_path / "a")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).touch()
    try:
        found = snapshot_of(tmp_path, files)
    except (OSError, NotSendable):
        return
    assert found == {"a": "x"}


@pytest.mark.parametrize("function", list(DigestFunction))
def test_files_hash_as_bytes_do(tmp_path: Path, function: DigestFunction) -> None:
    data = os.urandom(2_500_000)
    (tmp_path / "f").write_bytes(data)
    identity, digest = hash_file(str(tmp_path / "f"), function)
    assert digest == Digest.of(data, function)
    assert identity == FileIdentity.of((tmp_path / "f").stat())
    assert hash_mapped(str(tmp_path / "f"), function) == (identity, digest.hash)
    assert FileDigests(function).digest(str(tmp_path / "f")) == digest
    assert FileDigests(function).digest_mapped(str(tmp_path / "f")) == digest


def test_changes_right_after_hashing_show(tmp_path: Path, files: FileDigests) -> None:
    """Two writes in one tick of the file system's clock have the same times."""
    path = tmp_path / "f"
    for number in range(300):
        path.write_text(f"{number:04}")
        assert files.digest(str(path)) == Digest.of(f"{number:04}".encode(), SHA256)


def test_a_file_replaced_by_rename_shows(tmp_path: Path, files: FileDigests) -> None:
    path = write(tmp_path / "f", "one")
    os.utime(path, ns=(OLD, OLD))
    time.sleep(0.1)
    first = files.digest(str(path))
    other = write(tmp_path / "g", "two")
    os.utime(other, ns=(OLD, OLD))
    time.sleep(0.1)
    other.rename(path)
    assert files.digest(str(path)) == Digest.of(b"two", SHA256) != first


def test_threads_get_the_right_digest(tmp_path: Path, files: FileDigests) -> None:
    path = tmp_path / "f"
    path.write_text("0")
    wrong: list[str] = []

    def check() -> None:
        for _ in range(200):
            digest = files.digest(str(path))
            if digest != Digest.of(b"0", SHA256):
                wrong.append(digest.hash)

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_file_just_written_is_hashed_again_however_long_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been written to once more while it was hashed, within the same tick."""
    path = tmp_path / "f"
    path.write_text("x")
    calls = []

    def slow(name: str, function: DigestFunction) -> tuple[FileIdentity, Digest]:
        calls.append(name)
        found = hash_file(name, function)
        time.sleep(0.1)
        return found

    monkeypatch.setattr("wrapper.inputs.file_digests.hash_file", slow)
    files = FileDigests(SHA256)
    for _ in range(3):
        assert files.digest(str(path)) == Digest.of(b"x", SHA256)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "way",
    [
        "plain/deep",
        "plain/deep/..",
        "plain/./deep/",
        "link/../deep",
        "link/deep/../../plain",
        "plain/up/link/deep",
        "up/..",
        "loop/deep",
        "gone/../plain/deep",
        "to-gone/deep/..",
        "absolute/deep",
    ],
)
def test_where_directories_are(tmp_path: Path, way: str) -> None:
    (tmp_path / "plain" / "deep").mkdir(parents=True)
    for name, target in {
        "link": "plain",
        "plain/up": "..",
        "up": "plain/deep/../..",
        "loop": "loop",
        "to-gone": "gone/further",
        "absolute": str(tmp_path / "link"),
    }.items():
        (tmp_path / name).symlink_to(target)
    places = RealPlaces()
    for path in (f"{tmp_path}/{way}", f"/{tmp_path}/{way}", way, "/", "//", "/.."):
        assert places.directory(path) == os.path.realpath(path)
    assert places.of(f"{tmp_path}/{way}/x") == f"{os.path.realpath(f'{tmp_path}/{way}')}/x"
