"""What is known of units holds wherever their artifacts lie."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.moved_units import MovedUnits, made_of
from wrapper.inputs.snapshot import skip_nothing, take_snapshot
from wrapper.inputs.unit_records import UnitRecord, UnitRecords
from wrapper.preferred import PREFERRED
from wrapper.rustc.arguments import NotUnderstood

ABOVE, BELOW = "above-1", "below-2"


@pytest.fixture
def units(tmp_path: Path) -> Iterator[UnitRecords]:
    found = UnitRecords(tmp_path / "units.sqlite")
    yield found
    found.close()


@pytest.fixture
def moved(units: UnitRecords) -> MovedUnits:
    return MovedUnits(units, FileDigests(PREFERRED))


def deps(checkout: Path) -> str:
    return f"{checkout}/target/debug/deps"


def hash_of(package: str) -> str:
    """Of what is in a package's directory."""
    return take_snapshot(package, FileDigests(PREFERRED), skip_nothing).root.hash


def hashes_of(record: UnitRecord) -> set[str]:
    return {hash_of(record.package)}


def closure(moved: MovedUnits, checkout: Path, name: str) -> dict[str, UnitRecord]:
    return moved.closure([f"{deps(checkout)}/{name}"], str(checkout), hashes_of)


@pytest.fixture
def here(tmp_path: Path, units: UnitRecords) -> Path:
    """A checkout with two units built, one of which stands on the other."""
    checkout = tmp_path / "here"
    (checkout / "package").mkdir(parents=True)
    (checkout / "target/debug/build/below/out").mkdir(parents=True)
    os.mkdir(deps(checkout))
    files = FileDigests(PREFERRED)
    for name, externs in ((BELOW, ()), (ABOVE, (f"{deps(checkout)}/{BELOW}",))):
        stem = f"{deps(checkout)}/{name}"
        Path(f"{deps(checkout)}/lib{name}.rmeta").write_text(name)
        record = UnitRecord(
            externs=externs,
            native=(f"{checkout}/target/debug/build/below/out", "/usr/lib"),
            package=f"{checkout}/package",
            system=("z",),
            files=(f"{checkout}/read",),
            sources=hash_of(f"{checkout}/package"),
            made=made_of(stem, files),
        )
        units.add(stem, record)
    return checkout


def test_a_copy(moved: MovedUnits, here: Path, tmp_path: Path) -> None:
    there = tmp_path / "some" / "there"
    shutil.copytree(here, there)
    above, below = f"{deps(there)}/{ABOVE}", f"{deps(there)}/{BELOW}"
    found = closure(moved, there, ABOVE)
    assert found.keys() == {above, below}
    assert found[above].externs == (below,)
    assert found[above].native == (f"{there}/target/debug/build/below/out", "/usr/lib")
    assert found[above].package == f"{there}/package"
    assert found[above].system == ("z",)
    assert found[above].files == ()


def test_a_target_without_its_checkout(moved: MovedUnits, here: Path, tmp_path: Path) -> None:
    """Another worktree's sources may become others at any time."""
    shutil.copytree(here / "target", tmp_path / "there" / "target")
    with pytest.raises(NotUnderstood):
        closure(moved, tmp_path / "there", ABOVE)


def test_what_is_known_but_not_what_it_stands_on(
    moved: MovedUnits, units: UnitRecords, here: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    shutil.copytree(here, there)
    units.add(f"{deps(there)}/new-3", UnitRecord(externs=(f"{deps(there)}/{ABOVE}",)))
    assert len(closure(moved, there, "new-3")) == 3


def _another_artifact(there: Path) -> None:
    Path(f"{deps(there)}/lib{BELOW}.rmeta").write_text("of plain cargo's")


def _no_artifact(there: Path) -> None:
    os.remove(f"{deps(there)}/lib{BELOW}.rmeta")


def _no_sources(there: Path) -> None:
    shutil.rmtree(there / "package")
    shutil.rmtree(there.with_name("here") / "package")


def _other_sources(there: Path) -> None:
    (there / "package" / "lib.rs").write_text("of another branch")


@pytest.mark.parametrize("change", [_another_artifact, _no_artifact, _no_sources, _other_sources])
def test_what_is_another(
    moved: MovedUnits, here: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    there = tmp_path / "there"
    shutil.copytree(here, there)
    change(there)
    with pytest.raises(NotUnderstood):
        closure(moved, there, ABOVE)


@pytest.mark.parametrize("name", ["/package", ""])
def test_a_workspace_that_moved_away_from_its_target(
    moved: MovedUnits, units: UnitRecords, here: Path, tmp_path: Path, name: str
) -> None:
    stem = f"{deps(here)}/{BELOW}"
    there = str(tmp_path / "some" / "there")
    shutil.copytree(here / "package", there + name)
    gone = replace(units.get(stem), package=f"{tmp_path}/gone{name}", sources=hash_of(there + name))
    units.add(stem, gone)
    (record,) = moved.closure([stem], there, hashes_of).values()
    assert record == replace(gone, package=there + name, files=())
    units.add(stem, gone)
    Path(f"{there}{name}/lib.rs").write_text("of another branch")
    assert moved.closure([stem], there, hashes_of) == {stem: gone}


def test_old_records(moved: MovedUnits, units: UnitRecords, here: Path, tmp_path: Path) -> None:
    units.add(f"{deps(here)}/{BELOW}", UnitRecord(externs=()))
    shutil.copytree(here, tmp_path / "there")
    with pytest.raises(NotUnderstood):
        closure(moved, tmp_path / "there", BELOW)
