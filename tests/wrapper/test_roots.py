"""Real, staged and recorded paths of a unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrapper.inputs.inputs import is_of_system
from wrapper.roots import (
    OUTPUTS,
    RECORDED_CARGO,
    ROOT,
    OutsideRoots,
    Place,
    Roots,
    find_roots,
    target_directory,
)

REGISTRY = "registry/src/registry.example-1/serde-1.0.0"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A target directory outside of the workspace."""
    (tmp_path / "t" / "debug" / "deps").mkdir(parents=True)
    (tmp_path / "t" / "CACHEDIR.TAG").touch()
    return tmp_path / "t"


def roots_of(
    target: Path,
    *,
    cwd: str = "/w/ws",
    package: str = "/w/ws/crates/a",
    source: str = "crates/a/src/lib.rs",
    sources: Place | None = None,
    **environment: str,
) -> Roots:
    variables = {"CARGO_MANIFEST_DIR": package, "CARGO_HOME": "/u/.cargo", **environment}
    return find_roots(
        cwd=cwd, source=source, out_dir=f"{target}/debug/deps", triple=None,
        environment=variables, sources=sources,
    )  # fmt: skip


def of_registry(target: Path, home: str = "/u/.cargo") -> Roots:
    package = f"{home}/{REGISTRY}"
    return roots_of(
        target, cwd=package, package=package, source=f"{package}/src/lib.rs", CARGO_HOME=home
    )


@pytest.mark.parametrize("length", [1, 40, 200])
def test_options_are_the_same_however_long_paths_are(tmp_path: Path, length: int) -> None:
    (tmp_path / ("t" * length) / "debug" / "deps").mkdir(parents=True)
    for home in ("/u", f"/{'u' * 100}"):
        roots = of_registry(tmp_path / ("t" * length), home)
        assert [each.replace(ROOT, "") for each in roots.remap_options(staged=True)] == [
            f"--remap-path-prefix=/cargo/{REGISTRY}={RECORDED_CARGO}/{REGISTRY}",
            "--remap-path-prefix=/target=/proc/self/cwd/target",
        ]


def test_of_nested_places_the_inner_one_comes_last(target: Path) -> None:
    package = "/u/.cargo/git/checkouts/dep-1/abc/crates/dep"
    roots = roots_of(target, cwd=package, package=package, source=f"{package}/src/lib.rs")
    around, inner, _ = roots.remap_options(staged=True)
    assert around.startswith(f"--remap-path-prefix={ROOT}/cargo/git/checkouts/dep-1/abc=")
    assert inner.startswith(f"--remap-path-prefix={ROOT}/cargo/git/checkouts/dep-1/abc/crates/dep=")


def test_a_member(target: Path) -> None:
    roots = roots_of(target)
    assert roots.workspace == "/w/ws"
    assert roots.staged("/w/ws") == "workspace"
    assert roots.staged("/w/ws/crates/a/src/lib.rs") == "workspace/crates/a/src/lib.rs"
    assert roots.staged(f"{target}/debug/deps/libx.rmeta") == "target/debug/deps/libx.rmeta"
    for outside in ("/w/ws2", "/w", "/u/.cargo/registry/x", "", "w/ws", f"{target}2/x"):
        assert roots.staged(outside) is None


def test_a_target_directory_inside_of_the_workspace(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "debug" / "deps").mkdir(parents=True)
    (target / "CACHEDIR.TAG").touch()
    roots = roots_of(target, cwd=str(tmp_path), package=str(tmp_path))
    assert roots.staged(f"{tmp_path}/src/lib.rs") == "workspace/src/lib.rs"
    assert roots.staged(f"{target}/debug") == "target/debug"
    # rustc takes the last option that fits, which must be the longest path
    options = roots.remap_options(staged=False)
    assert [option for option in options if "/u/.cargo" not in option] == [
        f"--remap-path-prefix={tmp_path}=/proc/self/cwd",
        f"--remap-path-prefix={target}=/proc/self/cwd/target",
    ]


def test_a_package_of_the_registry(target: Path) -> None:
    roots = of_registry(target)
    package = f"/u/.cargo/{REGISTRY}"
    assert roots.workspace == roots.package == package
    assert roots.staged(f"{package}/src/lib.rs") == f"cargo/{REGISTRY}/src/lib.rs"
    option = f"--remap-path-prefix={package}={RECORDED_CARGO}/{REGISTRY}"
    assert option in roots.remap_options(staged=False)


def test_a_package_of_a_git_checkout(target: Path) -> None:
    package = "/u/.cargo/git/checkouts/repo-12ab/89cd/sub/crate"
    roots = roots_of(target, cwd=package, package=package, source=f"{package}/src/lib.rs")
    assert roots.staged(package) == "cargo/git/checkouts/repo-12ab/89cd/sub/crate"


@pytest.mark.parametrize(
    "package", ["/w/other/a", "/w/registry/src/mine/a", "/w/git/checkouts/mine/a"]
)
def test_a_package_beside_the_workspace_is_named_by_what_it_is(target: Path, package: str) -> None:
    """Also where its path looks like a registry's: only CARGO_HOME's never changes."""
    roots = roots_of(
        target, cwd=package, package=package, source=f"{package}/src/lib.rs",
        CARGO_PKG_NAME="a", CARGO_PKG_VERSION="0.1.0",
    )  # fmt: skip
    assert roots.staged(f"{package}/src/lib.rs") == "package/a-0.1.0/src/lib.rs"


def test_nothing_shared_depends_on_where_things_are(tmp_path: Path) -> None:
    """What enters keys and artifacts is the same for two users."""
    found = []
    for name in ("a", "some/where else"):
        target = tmp_path / name / "target"
        (target / "debug" / "deps").mkdir(parents=True)
        (target / "CACHEDIR.TAG").touch()
        for roots in (roots_of(target, cwd=f"/{name}", package=f"/{name}/p"),
                      of_registry(target, f"/{name}/cargo")):  # fmt: skip
            recorded = [o.partition("=")[2] for o in roots.remap_options(staged=False)]
            recorded = [text.rpartition("=")[2] for text in recorded]
            found.append((roots.remap_options(staged=True), sorted(recorded)))
    assert found[0] == found[2]
    assert found[1] == found[3]


def test_local_and_remote_compiles_record_the_same(target: Path) -> None:
    for roots in (roots_of(target), of_registry(target)):
        for place in (place for place in roots.places if place.staged):
            assert f"--remap-path-prefix={ROOT}/{place.staged}={place.recorded}" in (
                roots.remap_options(staged=True)
            )
            assert f"--remap-path-prefix={place.real}={place.recorded}" in (
                roots.remap_options(staged=False)
            )


def test_the_standard_librarys_source_is_mapped_here_and_never_sent(target: Path) -> None:
    place = Place(real="/tc/lib/rustlib/src/rust", staged="", recorded="/rustc/abc")
    roots = roots_of(target, sources=place)
    assert "--remap-path-prefix=/tc/lib/rustlib/src/rust=/rustc/abc" in (
        roots.remap_options(staged=False)
    )
    assert roots.remap_options(staged=True) == roots_of(target).remap_options(staged=True)
    assert roots.staged("/tc/lib/rustlib/src/rust/library/core/src/lib.rs") is None
    assert ("/rustc/abc/", "/tc/lib/rustlib/src/rust/") in roots.recorded_to_real()


@pytest.mark.parametrize(
    ("text", "staged"),
    [
        ("/w/ws", f"{ROOT}/workspace"),
        ("/w/ws/a b", f"{ROOT}/workspace/a b"),
        ("/x:/w/ws/include:/w/ws/y", f"/x:{ROOT}/workspace/include:{ROOT}/workspace/y"),
        ('path="/w/ws"', f'path="{ROOT}/workspace"'),
        ("native=/w/ws/lib", f"native={ROOT}/workspace/lib"),
        ("-I/w/ws/x -L/w/ws", f"-I{ROOT}/workspace/x -L{ROOT}/workspace"),
        ("-T/w/ws/x.ld", f"-T{ROOT}/workspace/x.ld"),
        ("I/w/ws a-L/w/ws/x D/w/ws", f"I/w/ws a-L{ROOT}/workspace/x D/w/ws"),
        ("/w/ws2 /w/ws-old /w/ws.rs", "/w/ws2 /w/ws-old /w/ws.rs"),
        ("https://example.org/w/ws", "https://example.org/w/ws"),
        ("/mnt/w/ws/x", "/mnt/w/ws/x"),
        ("relative/w/ws", "relative/w/ws"),
        ("", ""),
    ],
)
def test_paths_within_texts(target: Path, text: str, staged: str) -> None:
    assert roots_of(target).stage_text(text) == staged


@given(st.text(max_size=30))
def test_a_text_without_the_roots_is_left_alone(text: str) -> None:
    places = (Place(real="/w/ws", staged="workspace", recorded="/proc/self/cwd"),)
    roots = Roots(
        places=places, workspace="/w/ws", package="/w/ws", out_dir="/t", target="/t",
    )  # fmt: skip
    assert "/w/ws" in text or roots.stage_text(text) == text
    staged = roots.stage_text(f"/w/ws/{text}")
    assert staged.startswith(f"{ROOT}/workspace/")


def replace(text: str, pairs: list[tuple[str, str]]) -> str:
    """The longest that fits, at each place of the text."""
    pairs = sorted(pairs, key=lambda pair: -len(pair[0]))
    out, at = "", 0
    while at < len(text):
        for old, new in pairs:
            if text.startswith(old, at):
                out, at = out + new, at + len(old)
                break
        else:
            out, at = out + text[at], at + 1
    return out


def test_replies_show_the_users_paths(target: Path) -> None:
    roots = of_registry(target, "/usr/local/cargo")
    package = f"/usr/local/cargo/{REGISTRY}"
    pairs = [*roots.staged_to_real("/worker/1"), *roots.recorded_to_real()]
    for worker, real in (
        (f"/worker/1/{OUTPUTS}/libx.rmeta", f"{target}/debug/deps/libx.rmeta"),
        ("/worker/1/target/debug/build/x/out/y.rs", f"{target}/debug/build/x/out/y.rs"),
        (f"/worker/1/cargo/{REGISTRY}/src/lib.rs", f"{package}/src/lib.rs"),
        (f"{RECORDED_CARGO}/{REGISTRY}/src/lib.rs", f"{package}/src/lib.rs"),
        (f"{RECORDED_CARGO}/registry/src/i/b-1/x.rs", "/usr/local/cargo/registry/src/i/b-1/x.rs"),
        (f"{RECORDED_CARGO}/git/checkouts/x.rs", "/usr/local/cargo/git/checkouts/x.rs"),
        ("/proc/self/cwd/target/x", f"{target}/x"),
        ("src/lib.rs", "src/lib.rs"),
    ):
        assert replace(worker, pairs) == real


def test_the_shim_gets_the_longest_paths_first(target: Path) -> None:
    """It takes the first that fits."""
    olds = [old for old, _ in of_registry(target).recorded_to_real()]
    assert olds == sorted(olds, key=lambda old: -len(old))


def test_messages_of_a_member_show_the_users_paths(target: Path) -> None:
    roots = roots_of(target)
    pairs = roots.recorded_to_real()
    assert replace("/proc/self/cwd/crates/a/src/lib.rs", pairs) == "/w/ws/crates/a/src/lib.rs"
    assert replace("/proc/self/cwd/target/x/y.rs", pairs) == f"{target}/x/y.rs"


def test_what_lies_outside_is_refused(target: Path, tmp_path: Path) -> None:
    with pytest.raises(OutsideRoots, match="CARGO_MANIFEST_DIR"):
        roots_of(target, CARGO_MANIFEST_DIR="")
    with pytest.raises(OutsideRoots, match="CARGO_MANIFEST_DIR"):
        roots_of(target, CARGO_MANIFEST_DIR="relative")
    with pytest.raises(OutsideRoots, match="outside of the workspace"):
        roots_of(target, package="/w/ws2/a")
    with pytest.raises(OutsideRoots, match="output directory"):
        target_directory(str(tmp_path / "none" / "debug"))


@pytest.mark.parametrize(
    ("out_dir", "triple", "target"),
    [
        ("/t/debug/deps", None, "/t"),
        ("/t/release/examples", None, "/t"),
        ("/a b/t/debug/build/serde-12ab", None, "/a b/t"),
        ("/t/x86_64-unknown-linux-gnu/debug/deps", "x86_64-unknown-linux-gnu", "/t"),
        ("/t/debug/deps", "x86_64-unknown-linux-gnu", "/t"),
    ],
)
def test_the_target_directory_follows_from_cargos_layout(
    out_dir: str, triple: str | None, target: str
) -> None:
    """Not from its CACHEDIR.TAG: cargo writes none into a directory that was there before."""
    assert target_directory(out_dir, triple) == target


def test_a_workspace_below_usr_is_not_the_systems(target: Path) -> None:
    """As in images of containers."""
    package = "/usr/src/app"
    roots = roots_of(
        target, cwd=package, package=package, source="src/lib.rs", CARGO_HOME="/usr/local/cargo"
    )
    for directory in (
        "/usr/src/app/native",
        "/usr/local/cargo/registry/src/i/a-1/lib",
        f"{target}/x",
    ):
        assert not is_of_system(directory, roots)
    for directory in ("/usr/lib", "/usr/local/lib"):
        assert is_of_system(directory, roots)


def test_cargo_home_is_found_without_the_variable(target: Path) -> None:
    roots = find_roots(
        cwd="/w", source="src/lib.rs", out_dir=f"{target}/debug/deps", triple=None, sources=None,
        environment={"CARGO_MANIFEST_DIR": "/w", "HOME": "/u"},
    )  # fmt: skip
    assert (f"{RECORDED_CARGO}/registry/", "/u/.cargo/registry/") in roots.recorded_to_real()
