"""What runs of build scripts call a toolchain, and what its rustc looks at for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from wrapper.build_scripts.accesses import Seen
from wrapper.build_scripts.names import Names, with_places
from wrapper.build_scripts.reads import named
from wrapper.roots import Place, Roots


def roots(target: Path) -> Roots:
    places = (Place(real=str(target), staged="target", recorded="/t"),)
    out = str(target / "debug" / "deps")
    return Roots(places=places, workspace="/w", package="/w", out_dir=out, target=str(target))


def toolchain(directory: Path) -> Path:
    (directory / "lib/rustlib").mkdir(parents=True)
    (directory / "bin").mkdir()
    (directory / "bin/rustc").touch(mode=0o755)
    return directory


def name_of_toolchain(tmp_path: Path, **environment: str) -> list[str]:
    found = with_places(roots(tmp_path / "target"), environment)
    return [place.real for place in found.places if place.staged == "toolchain"]


def test_a_toolchain_that_is_found_by_its_name(tmp_path: Path) -> None:
    own = toolchain(tmp_path / "own")
    assert name_of_toolchain(tmp_path, RUSTC=f"{own}/bin/rustc") == [str(own)]
    assert name_of_toolchain(tmp_path, RUSTC="rustc", PATH=f"/none:{own}/bin") == [str(own)]
    for path in ("", "/none", "bin"):
        assert name_of_toolchain(tmp_path, RUSTC="rustc", PATH=path) == []
    (own / "lib/rustlib").rmdir()  # as beside rustup's stand-in
    assert name_of_toolchain(tmp_path, RUSTC="rustc", PATH=f"{own}/bin") == []


@pytest.mark.parametrize(
    ("kinds", "programs", "is_rustcs"),
    [
        (("s", "s"), {"/opt/tc/bin/rustc"}, True),
        (("s", "s"), {"/other/bin/rustc"}, False),
        (("s", "s"), set(), False),
        (("o", "s"), {"/opt/tc/bin/rustc"}, False),
        (("s", "o"), {"/opt/tc/bin/rustc"}, False),
        (("s",), {"/opt/tc/bin/rustc"}, False),
    ],
)
def test_where_rustc_looks_for_stds_sources(
    tmp_path: Path, kinds: tuple[str, ...], programs: set[str], is_rustcs: bool
) -> None:
    sources = "/opt/tc/lib/rustlib/src/rust"
    paths = (sources, f"{sources}/library/std/src/lib.rs")
    reads = {"/etc/x": "s", **dict(zip(paths, kinds, strict=False))}
    found = named(Seen(reads=reads, programs=programs), Names(roots(tmp_path), ""))
    assert {name for _, name in found} == ({"/etc/x"} if is_rustcs else set(reads))
