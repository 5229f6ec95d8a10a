"""Toolchains as inputs. Most tests use a small one whose files they can change."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.loaded_libraries import libraries_of
from wrapper.inputs.snapshot import Snapshot
from wrapper.inputs.toolchain import Toolchain, Toolchains, machine
from wrapper.inputs.toolchain_files import toolchain_parts
from wrapper.rustc.arguments import NotUnderstood
from wrapper.rustc.by_name import compiler_by_name, path_of_driver

HOST = "x86_64-unknown-linux-gnu"
OTHER = "aarch64-unknown-none"
RUSTC = """#!/bin/sh
case "$*" in
"--print sysroot") echo "{sysroot}" ;;
"-vV") printf 'rustc 1.95.0\\nhost: {host}\\ncommit-hash: {commit}\\n' ;;
*) exit 1 ;;
esac
"""


def toolchain(root: Path, commit: str = "abc") -> Path:
    """A sysroot; returns its rustc."""
    files = {
        "bin/rustc": RUSTC.format(sysroot=root, host=HOST, commit=commit),
        "bin/clippy-driver": "#!/bin/sh\n",
        "bin/cargo": "cargo",
        "lib/librustc_driver-1.so": "driver",
        "lib/libLLVM.so.20": "llvm",
        "lib/rustlib/notes.txt": "notes",
        f"lib/rustlib/{HOST}/lib/libstd-1.rlib": "std",
        f"lib/rustlib/{HOST}/bin/rust-lld": "lld",
        f"lib/rustlib/{OTHER}/lib/libcore-1.rlib": "core",
        "share/doc/index.html": "long",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if "/bin/" in f"/{name}":
            path.chmod(0o755)
    return root / "bin" / "rustc"


@pytest.fixture
def toolchains() -> Toolchains:
    return Toolchains(FileDigests(DigestFunction.SHA256), BuildStarts())


def snapshot_of(toolchains: Toolchains, driver: Path, target: str | None = None) -> Snapshot:
    found = toolchains.find(str(driver), dict(os.environ))
    return toolchains.snapshot(found, driver.name, target)


def names(snapshot: Snapshot) -> set[str]:
    """Paths of the files, `*` at programs."""
    found: set[str] = set()
    pending = [("", snapshot.root)]
    while pending:
        prefix, digest = pending.pop()
        data = snapshot.blobs[digest]
        assert isinstance(data, bytes)
        message = re_pb.Directory.FromString(data)
        found.update(f"{prefix}{f.name}{'*' * f.is_executable}" for f in message.files)
        for child in message.directories:
            below = Digest.from_message(child.digest, DigestFunction.SHA256)
            pending.append((f"{prefix}{child.name}/", below))
    return found


def test_what_a_toolchain_says_of_itself(tmp_path: Path, toolchains: Toolchains) -> None:
    found = toolchains.find(str(toolchain(tmp_path)), dict(os.environ))
    assert (found.sysroot, found.host, found.commit) == (str(tmp_path), HOST, "abc")
    assert toolchains.find(str(tmp_path / "bin" / "rustc"), {}) is found


def test_only_what_a_compile_needs_is_taken(tmp_path: Path, toolchains: Toolchains) -> None:
    rustc = toolchain(tmp_path)
    common = {
        "lib/librustc_driver-1.so",
        "lib/libLLVM.so.20",
        f"lib/rustlib/{HOST}/lib/libstd-1.rlib",
        f"lib/rustlib/{HOST}/bin/rust-lld*",
    }
    assert names(snapshot_of(toolchains, rustc)) == common | {"bin/rustc*"}
    assert names(snapshot_of(toolchains, rustc, HOST)) == common | {"bin/rustc*"}
    clippy = rustc.with_name("clippy-driver")
    assert names(snapshot_of(toolchains, clippy)) == common | {"bin/clippy-driver*"}
    other = f"lib/rustlib/{OTHER}/lib/libcore-1.rlib"
    assert names(snapshot_of(toolchains, rustc, OTHER)) == common | {"bin/rustc*", other}


def test_the_place_does_not_count(tmp_path: Path, toolchains: Toolchains) -> None:
    one, two = toolchain(tmp_path / "one"), toolchain(tmp_path / "two")
    shared = RUSTC.replace("{sysroot}", '$(dirname "$(dirname "$0")")')
    for rustc in (one, two):
        rustc.write_text(shared.format(host=HOST, commit="abc"))
    assert snapshot_of(toolchains, one).root == snapshot_of(toolchains, two).root


@pytest.mark.parametrize(
    "name",
    ["lib/librustc_driver-1.so", f"lib/rustlib/{HOST}/lib/libstd-1.rlib", "bin/rustc"],
)
def test_every_file_counts(tmp_path: Path, toolchains: Toolchains, name: str) -> None:
    one, two = toolchain(tmp_path / "one"), toolchain(tmp_path / "two")
    with open(tmp_path / "two" / name, "a") as file:
        file.write("# changed\n")
    assert snapshot_of(toolchains, one).root != snapshot_of(toolchains, two).root


def test_a_toolchain_updated_in_place(tmp_path: Path) -> None:
    """`rustup update` under a daemon that has just seen the old one."""
    builds = BuildStarts()
    toolchains = Toolchains(FileDigests(DigestFunction.SHA256), builds)
    rustc = toolchain(tmp_path)
    builds.note("before")
    before = snapshot_of(toolchains, rustc)
    shutil.rmtree(tmp_path / "lib")
    toolchain(tmp_path, commit="newer")
    (tmp_path / "lib" / "librustc_driver-1.so").write_text("a newer driver")
    assert toolchains.find(str(rustc), dict(os.environ)).commit == "newer"
    assert snapshot_of(toolchains, rustc) is before, "within a build it is not looked at again"
    builds.note("after")
    after = snapshot_of(toolchains, rustc)
    assert after.root != before.root
    fresh = Toolchains(FileDigests(DigestFunction.SHA256), BuildStarts())
    assert after.root == snapshot_of(fresh, rustc).root


def test_two_toolchains_at_once(tmp_path: Path, toolchains: Toolchains) -> None:
    one, two = toolchain(tmp_path / "1", "one"), toolchain(tmp_path / "2", "two")
    roots = [snapshot_of(toolchains, rustc).root for rustc in (one, two, one, two)]
    assert roots[0] == roots[2] != roots[1] == roots[3]


def test_the_standard_librarys_source(tmp_path: Path, toolchains: Toolchains) -> None:
    rustc = toolchain(tmp_path)
    assert toolchains.find(str(rustc), {}).sources is None
    source = tmp_path / "lib" / "rustlib" / "src" / "rust" / "library"
    source.mkdir(parents=True)
    place = toolchains.find(str(rustc), {}).sources
    assert place is not None
    assert (place.real, place.staged, place.recorded) == (str(source.parent), "", "/rustc/abc")


def test_compilers_that_cannot_be_sent(tmp_path: Path, toolchains: Toolchains) -> None:
    rustc = toolchain(tmp_path)
    broken = tmp_path / "broken" / "rustc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    outside = tmp_path / "outside" / "my-driver"
    outside.parent.mkdir()
    outside.touch()
    shutil.copy2(rustc, outside.with_name("rustc"))
    for driver in ("rustc", "/nonexistent/rustc", str(broken), str(outside)):
        with pytest.raises(NotUnderstood, match=r"rustc|driver"):
            toolchains.find(driver, dict(os.environ))


def test_a_link_to_a_compiler_is_that_compiler(tmp_path: Path, toolchains: Toolchains) -> None:
    """Distributions have /usr/bin/rustc lead to a version's own directory."""
    rustc = toolchain(tmp_path / "tc")
    link = tmp_path / "rustc"
    link.symlink_to(rustc)
    assert toolchains.find(str(link), {}).sysroot == str(tmp_path / "tc")
    assert snapshot_of(toolchains, link).root == snapshot_of(toolchains, rustc).root


def test_a_proxy_is_not_the_compiler_that_it_picks(tmp_path: Path, toolchains: Toolchains) -> None:
    """rustup's `rustc` runs another compiler in each directory: its path says nothing.

    cargo names the proxy when it is told to by RUSTC, and when it is not rustup's own cargo.
    """
    stable, nightly = toolchain(tmp_path / "stable"), toolchain(tmp_path / "nightly")
    proxy = tmp_path / "cargo" / "bin" / "rustc"
    proxy.parent.mkdir(parents=True)
    proxy.write_text(
        f'#!/bin/sh\nif [ -e rust-toolchain ]; then exec {nightly} "$@"; fi\nexec {stable} "$@"\n'
    )
    proxy.chmod(0o755)
    with pytest.raises(NotUnderstood, match="sysroot"):
        toolchains.find(str(proxy), dict(os.environ))


def test_the_real_toolchain(toolchains: Toolchains) -> None:
    asked = ["rustc", "--print", "sysroot"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    rustc = Path(done.stdout.strip()) / "bin" / "rustc"
    found = toolchains.find(str(rustc), dict(os.environ))
    assert found.sysroot == done.stdout.strip()
    assert found.host.startswith(machine())
    assert len(found.commit) == 40
    listed = names(toolchains.snapshot(found, "rustc", None))
    assert "bin/rustc*" in listed
    assert any(name.startswith("lib/librustc_driver") for name in listed)
    assert any(f"rustlib/{found.host}/lib/libstd-" in name for name in listed)
    assert not any(name.startswith("share/") for name in listed)


def test_libraries_of_a_compiler_that_is_whole(toolchains: Toolchains, tmp_path: Path) -> None:
    assert toolchains.find(str(toolchain(tmp_path / "tc")), {}).libraries == ()
    asked = ["rustc", "--print", "sysroot"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    found = libraries_of(f"{done.stdout.strip()}/bin/rustc")
    assert [path for path in found if "librustc_driver" in path]
    assert all(path.startswith(f"{done.stdout.strip()}/lib/") for path in found)


def test_what_a_distributions_compiler_has(tmp_path: Path) -> None:
    """Of what lies around it, its own files and libraries alone; where no commit is known its
    release is its name, as in rustc."""
    toolchain(tmp_path, commit="unknown")
    (tmp_path / "lib" / "libother.so").touch()
    parts = toolchain_parts(str(tmp_path), HOST, "rustc", None, is_shared=True)
    assert parts == ["bin/rustc", f"lib/rustlib/{HOST}/lib", f"lib/rustlib/{HOST}/bin"]
    library = str(tmp_path / "lib" / "libLLVM.so.20")
    found = Toolchain(sysroot="/usr", host=HOST, commit="", is_shared=True, libraries=(library,))
    assert found.shown == ("/usr/lib/rustlib", "/usr/bin/rustc", library)
    digests = FileDigests(DigestFunction.SHA256)
    seen = Toolchains(digests, BuildStarts()).libraries(found)
    assert seen == {library: digests.digest(library)}


def test_a_release_stands_for_a_commit_that_is_not_known(
    toolchains: Toolchains, tmp_path: Path
) -> None:
    rustc = toolchain(tmp_path, commit="unknown\\nrelease: 1.95.0-dist")
    assert toolchains.find(str(rustc), {}).commit == "1.95.0-dist"


def test_the_compiler_that_is_named_without_its_path(tmp_path: Path) -> None:
    rustc = toolchain(tmp_path)
    environment = {"PATH": f"/nowhere:{rustc.parent}"}
    assert path_of_driver("rustc", environment, "/") == str(rustc)
    assert path_of_driver("/x/rustc", environment, "/") == "/x/rustc"
    assert path_of_driver("rustc", {"PATH": "/nowhere"}, "/") == "rustc"
    for path in (":/bin", ".:/bin", "/bin:"):
        assert Path(path_of_driver("rustc", {"PATH": path}, str(rustc.parent))).samefile(rustc)


def test_the_compiler_that_macros_run_by_its_name(tmp_path: Path) -> None:
    rustc = str(toolchain(tmp_path))
    directory = os.path.dirname(rustc)
    assert compiler_by_name(rustc, {"PATH": f"{directory}:/usr/bin"}) == {rustc}
    assert not compiler_by_name(rustc, {"PATH": str(toolchain(tmp_path / "other").parent)})
    for path in (f".:{directory}", f"{directory}:", f"bin:{directory}"):
        assert not compiler_by_name(rustc, {"PATH": path})


def test_the_compiler_that_rustups_stand_in_runs(tmp_path: Path) -> None:
    (tmp_path / "rustup").touch(mode=0o755)
    (tmp_path / "rustc").symlink_to("rustup")
    environment = {"PATH": str(tmp_path), "RUSTUP_HOME": "/r"}
    assert path_of_driver("rustc", environment, "/") == "rustc"
    environment["RUSTUP_TOOLCHAIN"] = "1.65.0"
    assert path_of_driver("rustc", environment, "/") == "/r/toolchains/1.65.0/bin/rustc"
