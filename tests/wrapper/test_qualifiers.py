"""What a link reads of this machine is named, or refused with its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wrapper.inputs.code_reads import Reads
from wrapper.inputs.inputs import Inputs
from wrapper.preferred import PREFERRED
from wrapper.qualifiers import qualifiers
from wrapper.roots import Place, Roots
from wrapper.rustc.arguments import NotUnderstood, parse

ROOTS = Roots(
    places=(
        Place(real="/w/target", staged="target", recorded="/t"),
        Place(real="/w", staged="workspace", recorded="/ws"),
    ),
    workspace="/w",
    package="/w",
    out_dir="/w/target/debug/deps",
    target="/w/target",
)


def found(extra: str, driver: str = "/usr/bin/rustc", **inputs: object) -> dict[str, str]:
    argv = (
        f"{driver} --crate-name x src/main.rs --crate-type bin --emit=dep-info,link "
        f"--out-dir /w/target/debug/deps {extra}"
    ).split()
    return qualifiers(parse(argv), ROOTS, Inputs(function=PREFERRED, **inputs), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "extra",
    [
        "",
        "-C opt-level=3",
        "--target wasm32-unknown-unknown -C link-arg=--gc-sections",
        "--target thumbv7em-none-eabihf -C link-arg=-Tlink.x",
        "--target thumbv7em-none-eabihf -C link-arg=--defsym=X=1",
        "--target wasm32-unknown-unknown -C link-arg=-zstack-size=65536",
        "--target wasm32-unknown-unknown -C link-arg=-z -C link-arg=stack-size=65536",
        "--target wasm32-unknown-unknown -C link-arg=--max-memory=65536 -C link-arg=--no-entry",
        "--target wasm32-unknown-unknown -C link-arg=--export=__heap_base -C link-arg=-s",
        "-C linker=rust-lld",
    ],
)
def test_what_any_worker_can_link(extra: str) -> None:
    assert found(extra, is_for_host="--target" not in extra) == {}


@pytest.mark.parametrize(
    ("specification", "extra", "refused"),
    [
        ({"linker": "rust-lld"}, "", None),
        ({"linker": "rust-lld", "pre-link-args": {}, "cpu": "x"}, "", None),
        ({"linker": "cc"}, "-C linker=rust-lld", None),
        ({}, "", "with cc"),
        ({"linker": "rust-lld"}, "-C linker=gcc", "with gcc"),
        ({"linker": "rust-lld", "pre-link-args": {"ld.lld": ["-Tx"]}}, "", "has pre-link-args"),
        ({"linker": "rust-lld", "post-link-objects": {"x": ["a.o"]}}, "", "post-link-objects"),
        ({"linker": "rust-lld", "link-env": ["A=b"]}, "", "has link-env"),
        ({"linker": "rust-lld", "link-script": "INPUT(/x)"}, "", "has link-script"),
        ({"linker": "rust-lld", "cpu": "native"}, "", "has cpu"),
        ({"linker": "rust-lld"}, "-C linker-flavor=gcc", "with gcc"),
        ({"linker": "rust-lld", "llvm-args": ["-x"]}, "", "has llvm-args"),
        ({"linker": "rust-lld"}, "-C link-arg=-lm", "with rustc's own linker"),
    ],
)
def test_targets_specified_by_a_file(
    tmp_path: Path, specification: object, extra: str, refused: str | None
) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(specification))
    extra = f"--target {file} {extra}"
    if refused is None:
        assert found(extra, is_for_host=False) == {}
        return
    with pytest.raises(NotUnderstood, match=refused):
        found(extra, is_for_host=False)


@pytest.mark.parametrize(
    ("extra", "names"),
    [
        ("-C linker=gcc", {"linker"}),
        ("-C linker-flavor=gcc", {"linker"}),
        ("--target thumbv7em-none-eabihf -C linker=gcc", {"linker"}),
        ("--target thumbv7em-none-eabihf -C linker-flavor=gcc", {"linker"}),
        ("-C link-arg=-Wl,--as-needed", {"linker"}),
        ("-C link-arg=-Wl,-rpath=$ORIGIN/../lib,--enable-new-dtags", {"linker"}),
        ("-C link-arg=-Wl,-u,it,--defsym=a=1,-znow,--no-undefined", {"linker"}),
        ("-C link-arg=-Wl,--exclude-libs,ALL,-Bsymbolic-functions,-q", {"linker"}),
        ("-C link-arg=-static-libgcc -C link-arg=-march=x86-64-v3", {"linker"}),
        ("-C link-arg=-fuse-ld=bfd", {"linker", "-fuse-ld=bfd"}),
        ("-C link-args=-lm", {"linker", "lib m"}),
        ("-C target-cpu=native", {"cpu"}),
        ("-C link-arg=/w/x.ld", {"linker"}),
    ],
)
def test_what_is_named(extra: str, names: set[str]) -> None:
    assert found(extra).keys() == names


def test_libraries_of_dependencies_and_other_machines_are_named() -> None:
    assert found("", system=["dylib=m", "m"]).keys() == {"linker", "lib m"}
    assert found("", is_for_host=False).keys() == {"linker"}


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("-C linker=/opt/own/cc", "/opt/own/cc"),
        ("-C link-arg=/elsewhere/x.o", "/elsewhere/x.o"),
        ("-C link-arg=x.o", "x.o"),
        ("-C link-arg=-Wl,-T,x.ld", "x.ld"),
        ("-C link-arg=-Wl,--undefined,it,-T,x.ld", "x.ld"),
        ("-C link-arg=-Wl,--version-script=x.map", "x.map"),
        ("-C link-arg=-march=native", "native"),
        ("-C link-arg=-z -C link-arg=now -C link-arg=x.ld", "x.ld"),
        ("-C link-arg=@file", "@file"),
        ("-C link-arg=-lno_such_library", "no_such_library"),
        ("-C link-arg=-fuse-ld=nosuch", "nosuch"),
        ("-C linker=rust-lld -C link-arg=-lm", "library m"),
    ],
)
def test_what_is_refused(extra: str, named: str) -> None:
    with pytest.raises(NotUnderstood, match=named):
        found(extra)


def test_a_linker_that_the_toolchain_brings(tmp_path: Path) -> None:
    """Its files are all in the key; where the system has one of the name, that may be taken."""
    beside = tmp_path / "lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld"
    beside.mkdir(parents=True)
    for name in ("nosuch", "bfd"):
        (beside / f"ld.{name}").touch()
    driver = f"{tmp_path}/bin/rustc"
    assert found("-C link-arg=-fuse-ld=nosuch", driver).keys() == {"linker"}
    assert found("-C link-arg=-fuse-ld=bfd", driver).keys() == {"linker", "-fuse-ld=bfd"}


def test_libraries_that_code_has_linked() -> None:
    """Those of the link set are in it; those that are not here are not what is linked."""
    assert found("", attributed=frozenset({"c", "rt", "none-of-this-name"})) == {}
    assert list(found("", attributed=frozenset({"c", "resolv"}))) == ["lib resolv"]


def test_what_macros_may_list(tmp_path: Path) -> None:
    """rustc lists a directory of libraries by itself, so that nobody sees it done by a macro."""
    reads = Reads(suspect="fs::")
    seen = [found("", macros=reads, searched=(str(tmp_path),))]
    (tmp_path / "a").touch()
    seen.append(found("", macros=reads, searched=(str(tmp_path),)))
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    seen.append(found("", macros=reads, searched=(str(tmp_path),)))
    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert found("", searched=(str(tmp_path),)) == {}
    with pytest.raises(NotUnderstood, match="cannot read"):
        found("", macros=reads, searched=(str(tmp_path / "none"),))


def test_what_is_left_out_has_its_kind_in_the_key(tmp_path: Path) -> None:
    reads, path = Reads(suspect="fs::"), tmp_path / ".git"
    seen = [found("", macros=reads, left_out=[str(path)])]
    path.touch()
    seen.append(found("", macros=reads, left_out=[str(path)]))
    path.unlink()
    path.mkdir()
    seen.append(found("", macros=reads, left_out=[str(path)]))
    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert found("", left_out=[str(path)]) == {}
