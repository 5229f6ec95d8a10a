"""The link set of real compilers, and of a small one whose files the tests can change."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from remote_apis.link_set import _FILES, _PROGRAMS, _found, files, link_set

COMPILER = """#!/bin/sh
files="$(dirname "$0")/files"
case "$1" in
-v) echo "tiny compiler 1.0" >&2 ;;
-print-search-dirs) echo "programs: =/none/:$files/"; echo "libraries: =$files/:/none/" ;;
*) exit 1 ;;
esac
"""
FILES = ("crti.o", "libc.so.6", "collect2")


def compiler(directory: Path) -> Path:
    """A compiler that finds its files in the directory `files` beside it."""
    (directory / "files").mkdir(parents=True)
    for name in FILES:
        (directory / "files" / name).write_text(f"content of {name}")
        (directory / "files" / name).chmod(0o755)
    path = directory / "cc"
    path.write_text(COMPILER)
    path.chmod(0o755)
    return path


def set_of(path: Path) -> str:
    found = link_set(str(path))
    assert found is not None
    return found


def test_of_this_machine() -> None:
    first = link_set()
    assert first is not None
    assert len(first) == 64
    assert first == link_set()


@pytest.mark.parametrize("compiler", ["cc", "gcc", "clang"])
def test_files_are_where_the_compiler_says(compiler: str) -> None:
    """We look in its directories; it would look there itself, a process a file."""
    path = shutil.which(compiler)
    if path is None:
        assert compiler != "cc"
        return

    def says(option: str) -> str:
        return subprocess.check_output([path, option], text=True, env={"LC_ALL": "C"}).strip()

    real = os.path.realpath(path)
    found = dict(_found(path, real, os.stat(real).st_mtime_ns)[1])
    assert {found[name] for name in _FILES} == {says(f"-print-file-name={n}") for n in _FILES}
    for name in _PROGRAMS:
        said = says(f"-print-prog-name={name}")
        assert found[name] == (said if os.path.isabs(said) else shutil.which(said) or "")


def test_any_name_of_the_same_compiler_gives_the_same_set(tmp_path: Path) -> None:
    """/bin/cc and /usr/bin/cc are one file on most systems."""
    real = shutil.which("cc")
    assert real is not None
    other = tmp_path / "cc"
    other.symlink_to(real)
    assert link_set(str(other)) == link_set(real)


def test_another_place_with_the_same_files_gives_the_same_set(tmp_path: Path) -> None:
    assert set_of(compiler(tmp_path / "one")) == set_of(compiler(tmp_path / "two"))


@pytest.mark.parametrize("name", FILES)
def test_each_file_counts(tmp_path: Path, name: str) -> None:
    first = set_of(compiler(tmp_path / "one"))
    changed = compiler(tmp_path / "changed")
    (changed.parent / "files" / name).write_text("other")
    missing = compiler(tmp_path / "missing")
    (missing.parent / "files" / name).unlink()
    assert len({first, set_of(changed), set_of(missing)}) == 3


def test_a_further_file_counts(tmp_path: Path) -> None:
    first = set_of(compiler(tmp_path / "one"))
    more = compiler(tmp_path / "more")
    (more.parent / "files" / "libgcc.a").write_text("archive")
    assert set_of(more) != first


def test_what_a_script_stands_for_counts(tmp_path: Path) -> None:
    """glibc's libm.a names its archives."""
    seen = set()
    for content in ("one", "two"):
        path = compiler(tmp_path / content)
        archive = tmp_path / "libm-2.36.a"
        archive.write_text(content)
        (path.parent / "files" / "libm.a").write_text(f"/* GNU ld script */\nGROUP ( {archive} )\n")
        assert str(archive) in files(str(path))
        seen.add(set_of(path))
    assert len(seen) == 2


def test_the_compiler_itself_counts(tmp_path: Path) -> None:
    path = compiler(tmp_path / "one")
    first = set_of(path)
    path.write_text(path.read_text().replace("tiny compiler 1.0", "tiny compiler 1.1"))
    os.utime(path, ns=(1, 1))
    assert set_of(path) != first


def test_a_file_changed_under_the_same_compiler_is_noticed(tmp_path: Path) -> None:
    """libc is upgraded without the compiler, under a daemon that has run for days."""
    path = compiler(tmp_path / "one")
    first = set_of(path)
    (tmp_path / "one" / "files" / "libc.so.6").write_text("a newer libc")
    assert set_of(path) != first


def test_programs_that_the_compiler_names_without_a_directory_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcc says `ld` for the linker that it would search on PATH."""
    path = compiler(tmp_path / "one")
    for name in ("a", "b"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "ld").write_text(f"#!/bin/sh\n# linker {name}\n")
        (directory / "ld").chmod(0o755)
    found = set()
    for name in ("a", "b"):
        monkeypatch.setenv("PATH", f"{tmp_path / name}:{os.environ['PATH']}")
        os.utime(path, ns=(ord(name), ord(name)))
        found.add(set_of(path))
    assert len(found) == 2


def test_a_compiler_that_does_not_say_where_it_looks_has_no_set(tmp_path: Path) -> None:
    path = compiler(tmp_path / "one")
    path.write_text(path.read_text().replace("libraries: ", "lib: "))
    os.utime(path, ns=(1, 1))
    assert link_set(str(path)) is None


def test_no_working_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert link_set(str(broken)) is None
    assert link_set(str(tmp_path / "missing")) is None
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert link_set() is None
