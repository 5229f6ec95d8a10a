"""Texts are found wherever they stand in files of any size."""

from __future__ import annotations

from pathlib import Path

import pytest

from wrapper.searching import any_contains

LARGE = 200_000


@pytest.fixture(params=[100, LARGE], ids=["read", "mapped"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"\0" * request.param + b"/home/a.b/x\n" + b"\xff" * 10)
    return path


@pytest.mark.parametrize("needle", [b"/home/a.b", b"\0/", b"\xff\xff", b"x\n\xff", b"b"])
def test_what_is_there_is_found_among_others(file: Path, needle: bytes) -> None:
    assert any_contains([file], [b"/else", needle])


@pytest.mark.parametrize("needles", [[b"/home/a-b", b"/home/azb"], [b"/home/a.b/y"], []])
def test_what_is_not_there_is_not_found(file: Path, needles: list[bytes]) -> None:
    assert not any_contains([file], needles)


def test_any_of_the_files_will_do(file: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert any_contains([empty, file], [b"a.b"])
    assert not any_contains([empty], [b"a.b"])


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        any_contains([tmp_path / "gone"], [b"x"])
