"""Links that runs make are kept so that they lead to the same in any checkout, also those that
cxx-build leaves beside OUT_DIR."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.wrapper.test_build_script_reads import roots_of, sorted_out
from wrapper.build_scripts.accesses import Surroundings
from wrapper.build_scripts.links import (
    add_link,
    leads_out,
    links_beside,
    named_beside,
    put_beside,
    target_of,
)
from wrapper.roots import ROOT, Roots, find_roots

NAME = "target/cxxbridge/app/lib.h"


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("b", False), ("../b", False), ("..", False), ("../../b", True), ("/usr/b", True),
        (f"{ROOT}/workspace/b", False), ("../../out/b", False), ("../../outer", True),
    ],
)  # fmt: skip
def test_links_that_hold_in_this_checkout_alone(target: str, wanted: bool) -> None:
    assert leads_out(re_pb.OutputSymlink(path="out/deep/link", target=target)) == wanted


def place(directory: Path) -> tuple[Roots, Path]:
    """The places of a run in a workspace below a directory, and its OUT_DIR."""
    roots = roots_of(str(directory / "home"), str(directory / "ws"))
    out = Path(roots.out_dir) / "out"
    out.mkdir(parents=True)
    return roots, out


@pytest.mark.parametrize(
    "target",
    ["../../../../../", "../../../../../app", "file", "../../../debug/build/app-1/out", "/usr"],
)
def test_a_link_says_the_same_elsewhere(tmp_path: Path, target: str) -> None:
    here, out = place(tmp_path / "a")
    there, other = place(tmp_path / "deep" / "er")
    for directory in (out, other):
        (directory / "link").symlink_to(target)
    result = re_pb.ActionResult()
    add_link(result, "out/link", str(out / "link"), here)
    (link,) = result.output_symlinks
    assert not leads_out(link) or target == "/usr"
    (other / "link").unlink()
    assert target_of(link, str(other / "link"), there) == target


def test_where_directories_are_links_themselves_it_leads_to_the_same(tmp_path: Path) -> None:
    here, out = place(tmp_path / "a")
    (out / "link").symlink_to("../../../../../app")
    result = re_pb.ActionResult()
    add_link(result, "out/link", str(out / "link"), here)
    there = roots_of(str(tmp_path / "home"), str(tmp_path / "ws"))
    os.makedirs(f"{there.workspace}/app")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", there.target)
    other = f"{there.out_dir}/out"
    os.makedirs(other)
    (link,) = result.output_symlinks
    assert target_of(link, f"{other}/link", there) == f"{there.workspace}/app"


def test_a_way_that_is_not_the_shortest_is_this_checkouts(tmp_path: Path) -> None:
    roots, out = place(tmp_path)
    (out / "link").symlink_to("../../../../../app/../app")
    result = re_pb.ActionResult()
    add_link(result, "out/link", str(out / "link"), roots)
    assert leads_out(result.output_symlinks[0])


def test_links_beside_take_the_place_of_others(tmp_path: Path) -> None:
    roots, _ = place(tmp_path)
    left = Path(roots.target) / "cxxbridge" / "app" / "lib.h"
    left.parent.mkdir(parents=True)
    wanted = "../../debug/build/app-1/out/lib.h"
    left.symlink_to(wanted)
    result = re_pb.ActionResult()
    add_link(result, NAME, str(left), roots)
    for before in (None, "gone", wanted):
        left.unlink()
        if before is None:
            left.parent.rmdir()
        else:
            left.symlink_to(before)
        put_beside(result.output_symlinks, roots)
        assert os.readlink(left) == wanted


@pytest.mark.parametrize(
    "name",
    ["target/other/x", "target/cxxbridge", "target/cxxbridge/../x", "workspace/x", "x", "/x",
     "target/cxxbridge/app/./x", "target/cxxbridge//x", "target/a/b/cxxbridge/x"],
)  # fmt: skip
def test_no_other_place_is_written_to(tmp_path: Path, name: str) -> None:
    roots, _ = place(tmp_path)
    link = re_pb.OutputSymlink(path=name, target="/usr")
    with pytest.raises(OSError, match="which is not in OUT_DIR"):
        put_beside([link], roots)
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(
    ("name", "counts"),
    [("cxxbridge/x", True), ("x86_64-unknown-linux-gnu/cxxbridge/a/x", True),
     ("a/b/cxxbridge/x", False), ("cxxbridge", False), ("a/cxxbridge", False)],
)  # fmt: skip
def test_where_links_may_be_left(tmp_path: Path, name: str, counts: bool) -> None:
    """As cargo names a target directory that is configured as `../target`, too."""
    workspace = tmp_path / "ws"
    environment = {
        "CARGO_MANIFEST_DIR": str(workspace), "HOME": str(tmp_path / "home"),
        "CARGO_HOME": str(tmp_path / "home/.cargo"), "RUSTC": "rustc",
    }  # fmt: skip
    target = f"{workspace}/../target"
    roots = find_roots(
        cwd=str(workspace), source="build.rs", out_dir=f"{target}/debug/build/app-1",
        triple=None, environment=environment, sources=None,
    ).with_links_followed()  # fmt: skip
    workspace.mkdir()
    path = tmp_path / "target" / name
    path.parent.mkdir(parents=True)
    path.symlink_to("/usr")
    left = links_beside([("c", f"{target}/{name}")], roots)
    assert left == ({str(path): "/usr"} if counts else {})
    result = re_pb.ActionResult()
    for staged, real in named_beside(left, roots):
        add_link(result, staged, real, roots)
        path.unlink()
        put_beside(result.output_symlinks, roots)
        assert os.readlink(path) == "/usr"
    assert len(result.output_symlinks) == counts


def test_only_links_that_the_run_made_are_its_own(tmp_path: Path) -> None:
    roots, out = place(tmp_path)
    around = f"{roots.target}/cxxbridge"
    os.makedirs(f"{around}/app")
    for name in ("own", "others"):
        os.symlink(f"{out}/{name}", f"{around}/app/{name}")
    noted = [("c", f"{around}/app"), ("c", f"{around}/app/own"), ("s", f"{around}/app/others")]
    left = links_beside(noted, roots)
    assert left == {f"{around}/app/own": f"{out}/own"}
    surroundings = Surroundings(own=str(out), unseen=(), temporary="/tmp/t", left=left)

    def seen_with(*more: str) -> tuple[dict[str, str], str | None]:
        accesses = [*(kind + path for kind, path in noted), f"l{out}/own", *more]
        seen = sorted_out(*accesses, around=surroundings)
        return seen.reads, seen.trouble

    asked = {f"{around}/app/others": "s"}
    assert seen_with() == (asked, None)
    assert seen_with(f"o{around}/app/own") == (asked, None)
    assert seen_with(f"o{around}/app/others") == ({f"{around}/app/others": "o"}, None)
    assert seen_with(f"s{around}/app/new") == ({**asked, f"{around}/app/new": "s"}, None)
    assert seen_with(f"c{around}/app/new")[1] == f"it writes {around}/app/new"
    assert seen_with(f"m{around}/app/others")[1] == f"it writes {around}/app/others"
