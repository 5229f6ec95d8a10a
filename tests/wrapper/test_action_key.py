"""What the action digest depends on, and what it does not.

The compiler of these tests is a small one: the digest takes its files like any others.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.link_set import PROPERTY
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, build_action, platform_of
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.collect import Collector
from wrapper.inputs.environment import environment_of_action
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.unit_records import UnitRecord, UnitRecords
from wrapper.rustc.arguments import NotUnderstood, parse

SHA256 = DigestFunction.SHA256
HOST = "x86_64-unknown-linux-gnu"
RUSTC = f"""#!/bin/sh
case "$*" in
"--print sysroot") dirname "$(dirname "$0")" ;;
"-vV") printf 'rustc 1.95.0\\nhost: {HOST}\\ncommit-hash: abc\\n' ;;
esac
"""
OPTIONS = """--crate-name core_lib --edition=2021 crates/core/src/lib.rs --error-format=json
--json=diagnostic-rendered-ansi,artifacts,future-incompat --diagnostic-width=120 --crate-type lib
--emit=dep-info,metadata,link -C embed-bitcode=no -C debuginfo=2 --cfg 'feature="std"'
-C metadata=1122 -C extra-filename=-99aa --out-dir {target}/debug/deps
-C incremental={target}/debug/incremental -L dependency={target}/debug/deps
--extern direct={target}/debug/deps/libdirect-1.rmeta
--extern mac={target}/debug/deps/libmac-2.so"""


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """One user's workspace, target directory and toolchain; `action` is that of a member."""

    base: Path
    options: str = OPTIONS
    driver: str = "rustc"
    machine: str = "x86_64"
    link_set: str | None = "aa"
    target: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.base / "ws"

    def all_environment(self) -> dict[str, str]:
        own = {
            "CARGO_MANIFEST_DIR": f"{self.workspace}/crates/core",
            "CARGO_MANIFEST_PATH": f"{self.workspace}/crates/core/Cargo.toml",
            "CARGO_PKG_NAME": "core-lib",
            "CARGO_PKG_VERSION": "0.1.0",
            "CARGO_CRATE_NAME": "core_lib",
            "CARGO_HOME": f"{self.base}/cargo",
            "HOME": str(self.base),
            "OUT_DIR": f"{self.target}/debug/build/core-77/out",
            "LD_LIBRARY_PATH": f"{self.target}/debug/deps",
            "COLUMNS": str(len(str(self.base))),
        }
        return own | dict(self.environment)

    def action(self) -> BuiltAction:
        """The action, as the daemon would build it."""
        argv = shlex.split(self.options.format(target=shlex.quote(str(self.target))))
        invocation = parse([f"{self.base}/tc/bin/{self.driver}", *argv])
        files = FileDigests(SHA256)
        units = UnitRecords(self.base / "units.sqlite")
        deps = self.target / "debug" / "deps"
        units.add(f"{deps}/direct-1", UnitRecord(externs=(f"{deps}/indirect-3",)))
        units.add(f"{deps}/indirect-3", UnitRecord(externs=()))
        units.add(f"{deps}/mac-2", UnitRecord(externs=()))
        environment = self.all_environment()
        collector = Collector(files, units, BuildStarts())
        try:
            roots = collector.roots(invocation, str(self.workspace), environment)
            inputs = collector.collect(invocation, roots, environment)
        finally:
            units.close()
        return build_action(
            invocation=invocation,
            roots=roots,
            environment=environment_of_action(environment),
            inputs=inputs,
            platform=platform_of(invocation, self.machine, self.link_set),
        )

    def digest(self) -> Digest:
        return self.action().digest

    def with_options(self, extra: str) -> Checkout:
        return replace(self, options=f"{self.options} {extra}")

    def with_environment(self, **variables: str) -> Checkout:
        return replace(self, environment=dict(self.environment) | variables)


def checkout(base: Path, target: str = "ws/target") -> Checkout:
    """Make a user's files below `base`."""
    found = Checkout(base=base, target=base / target)
    member = found.workspace / "crates" / "core"
    write(found.workspace / "Cargo.toml", "[workspace]")
    write(member / "Cargo.toml", "[package]")
    write(member / "src" / "lib.rs", "mod a;")
    write(member / "src" / "a.rs", "")
    write(member / "data" / "table.txt", "1 2 3")
    write(found.target / "CACHEDIR.TAG", "")
    for name in ("direct-1.rmeta", "direct-1.rlib", "indirect-3.rmeta", "indirect-3.rlib",
                 "mac-2.so", "unrelated-4.rmeta"):  # fmt: skip
        write(found.target / "debug" / "deps" / f"lib{name}", f"content of {name}")
    write(found.target / "debug" / "build" / "core-77" / "out" / "gen.rs", "generated")
    write(found.target / "debug" / "build" / "core-77" / "output", "cargo::rustc-env=BUILT=1\n")
    for name in ("rustc", "clippy-driver"):
        write(base / "tc" / "bin" / name, RUSTC)
        (base / "tc" / "bin" / name).chmod(0o755)
    write(base / "tc" / "lib" / "librustc_driver.so", "driver")
    write(base / "tc" / "lib" / "rustlib" / HOST / "lib" / "libstd.rlib", "std")
    return found


@pytest.fixture
def alice(tmp_path: Path) -> Checkout:
    return checkout(tmp_path / "alice")


@pytest.mark.parametrize("target", ["ws/target", "elsewhere/t", "ws/deep/er/target"])
@pytest.mark.parametrize("name", ["bob", "a much/longer place/of 'bob's'"])
def test_another_place_has_the_same_key(
    alice: Checkout, tmp_path: Path, name: str, target: str
) -> None:
    bob = checkout(tmp_path / name, target)
    assert bob.action().blobs.keys() == alice.action().blobs.keys()
    assert bob.digest() == alice.digest()


SESSION: dict[str, Callable[[Checkout], Checkout]] = {
    "terminal width": lambda c: replace(
        c, options=c.options.replace("--diagnostic-width=120", "--diagnostic-width=80")
    ),
    "no terminal": lambda c: replace(
        c, options=c.options.replace("--diagnostic-width=120", "--color never")
    ),
    "no incremental": lambda c: replace(
        c, options=c.options.replace("-C incremental={target}/debug/incremental", "")
    ),
    "spelling of options": lambda c: replace(
        c,
        options=c.options.replace("--edition=2021", "--edition 2021")
        .replace("-C debuginfo=2", "--codegen debuginfo=2")
        .replace("-C metadata", "-Cmetadata"),
    ),
    "user": lambda c: c.with_environment(
        USER="x", PATH="/usr/bin:/bin:/x", HOME="/x", CARGO_HOME="/x/c"
    ),
    "build": lambda c: c.with_environment(CARGO_MAKEFLAGS="-j9", CARGO="/x", RUSTC_WRAPPER="/y"),
    "secrets": lambda c: c.with_environment(AWS_SECRET_ACCESS_KEY="x"),
}


@pytest.mark.parametrize("change", SESSION)
def test_the_session_does_not_count(alice: Checkout, change: str) -> None:
    assert SESSION[change](alice).digest() == alice.digest()


@pytest.mark.parametrize("name", ["unrelated-4.rmeta", "direct-1.rlib", "indirect-3.rlib"])
def test_files_that_a_library_does_not_read_do_not_count(alice: Checkout, name: str) -> None:
    before = alice.digest()
    (alice.target / "debug" / "deps" / f"lib{name}").write_text("other")
    assert alice.digest() == before


def test_times_do_not_count(alice: Checkout) -> None:
    before = alice.digest()
    for path in alice.base.rglob("*"):
        os.utime(path, (1, 1))
    assert alice.digest() == before


DEPS = "ws/target/debug/deps"


@pytest.mark.parametrize(
    "name",
    [
        "ws/crates/core/src/lib.rs",
        "ws/crates/core/src/a.rs",
        "ws/crates/core/Cargo.toml",
        "ws/crates/core/data/table.txt",
        "ws/crates/core/data/new.txt",
        f"{DEPS}/libdirect-1.rmeta",
        f"{DEPS}/libindirect-3.rmeta",
        f"{DEPS}/libmac-2.so",
        "ws/target/debug/build/core-77/out/gen.rs",
        "ws/target/debug/build/core-77/out/new.rs",
        "tc/bin/rustc",
        "tc/lib/librustc_driver.so",
        f"tc/lib/rustlib/{HOST}/lib/libstd.rlib",
    ],
)
def test_every_byte_that_is_read_counts(alice: Checkout, name: str) -> None:
    before = alice.digest()
    with open(alice.base / name, "a") as file:
        file.write("# ")
    assert alice.digest() != before


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=30), st.binary(max_size=30))
def test_any_two_sources_have_two_keys(alice: Checkout, one: bytes, two: bytes) -> None:
    source = alice.workspace / "crates" / "core" / "src" / "lib.rs"
    digests = []
    for content in (one, two):
        source.write_bytes(content)
        digests.append(alice.digest())
    assert (digests[0] == digests[1]) == (one == two)


@pytest.mark.parametrize(
    "extra",
    [
        "-C opt-level=3", "-C debuginfo=1", "-C debug-assertions=on", "-C lto=thin", "-O", "-g",
        "-C panic=abort", "-C codegen-units=1", "-C strip=symbols", "-C target-cpu=x86-64-v3",
        "-C target-feature=+avx2", "-C relocation-model=static", "-C overflow-checks=off",
        "-C metadata=3344", "-C extra-filename=-bb", "-C symbol-mangling-version=v0",
        "--cfg other", "--check-cfg 'cfg(x)'", "--edition=2024", "--cap-lints allow",
        "-A unused", "-D warnings", "-F unsafe_code", "--force-warn unused", "--test",
        f"--target {HOST}", "--crate-type dylib", "--crate-type rlib", "--error-format=human",
        "--json=unused-externs", "-l static=z", "-L native={target}/debug/build/core-77/out",
        "--extern renamed={target}/debug/deps/libdirect-1.rmeta", "--extern proc_macro",
        "-v",
    ],
)  # fmt: skip
def test_every_option_counts(alice: Checkout, extra: str) -> None:
    assert alice.with_options(extra).digest() != alice.digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('feature="std"', 'feature="alloc"'),
        ("dep-info,metadata,link", "dep-info,metadata"),
        ("--extern direct=", "--extern priv:direct="),
        ("src/lib.rs", "src/a.rs"),
        ("--crate-name core_lib", "--crate-name core_lib2"),
        ("--extern direct={target}/debug/deps/libdirect-1.rmeta\n", ""),
    ],
)
def test_every_part_counts(alice: Checkout, old: str, new: str) -> None:
    assert old in alice.options
    changed = replace(alice, options=alice.options.replace(old, new))
    assert changed.digest() != alice.digest()


@pytest.mark.parametrize(
    "name",
    [
        "CARGO_PKG_VERSION", "CARGO_PKG_AUTHORS", "CARGO_CRATE_NAME", "CARGO_BIN_NAME",
        "RUSTC_BOOTSTRAP", "BUILT",
    ],
)  # fmt: skip
def test_every_variable_that_a_compile_may_see_counts(alice: Checkout, name: str) -> None:
    digests = {
        alice.digest(),
        alice.with_environment(**{name: "x"}).digest(),
        alice.with_environment(**{name: "y"}).digest(),
        alice.with_environment(**{name: ""}).digest(),
    }
    assert len(digests) == 4


def test_the_platform_counts(alice: Checkout) -> None:
    assert replace(alice, machine="aarch64").digest() != alice.digest()
    assert replace(alice, link_set="bb").digest() == alice.digest()
    program = alice.with_options("--crate-type bin")
    assert replace(program, link_set="bb").digest() != program.digest()
    with pytest.raises(NotUnderstood, match="compiler"):
        replace(program, link_set=None).digest()


def test_a_link_reads_the_code_of_all_it_stands_on(alice: Checkout) -> None:
    program = alice.with_options("--crate-type bin")
    digests = {program.digest()}
    for name in ("direct-1.rlib", "indirect-3.rlib"):
        (alice.target / "debug" / "deps" / f"lib{name}").write_text("other")
        digests.add(program.digest())
    assert len(digests) == 3


def test_clippy_has_keys_of_its_own(alice: Checkout) -> None:
    clippy = replace(alice, driver="clippy-driver")
    assert clippy.digest() != alice.digest()


@pytest.mark.parametrize("name", ["ws/clippy.toml", "ws/.clippy.toml", "ws/crates/clippy.toml"])
def test_clippys_settings_count(alice: Checkout, name: str) -> None:
    """clippy looks for them in the package's directory and all directories above it."""
    clippy = replace(alice, driver="clippy-driver")
    before = clippy.digest()
    write(alice.base / name, "msrv = '1.60'")
    assert clippy.digest() != before


def blob_of(action: BuiltAction, digest: re_pb.Digest) -> bytes:
    """A blob that the action needs, checked against its digest."""
    named = Digest.from_message(digest, SHA256)
    source = action.blobs[named]
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    assert Digest.of(data, SHA256) == named
    return data


def files_of(action: BuiltAction, digest: re_pb.Digest, prefix: str = "") -> dict[str, bytes]:
    directory = re_pb.Directory.FromString(blob_of(action, digest))
    found = {f"{prefix}{f.name}": blob_of(action, f.digest) for f in directory.files}
    for child in directory.directories:
        found |= files_of(action, child.digest, f"{prefix}{child.name}/")
    return found


@pytest.mark.row(7)
def test_the_action_is_whole(alice: Checkout) -> None:
    built = alice.action()
    action = re_pb.Action.FromString(blob_of(built, built.digest.to_message()))
    command = re_pb.Command.FromString(blob_of(built, action.command_digest))
    assert list(command.arguments) == ["/bin/sh", "./run.sh"]
    names = ["core_lib-99aa.d", "libcore_lib-99aa.rlib", "libcore_lib-99aa.rmeta"]
    assert list(command.output_paths) == [f"outputs/{name}" for name in names]
    assert built.required_names == tuple(names)
    variables = {v.name: v.value for v in command.environment_variables}
    assert list(variables) == ["DISTBUILD_EARLY_OUTPUTS", "PATH"]
    early = "outputs/libcore_lib-99aa.rmeta outputs/core_lib-99aa.d"
    assert variables["DISTBUILD_EARLY_OUTPUTS"] == early
    properties = [(p.name, p.value) for p in action.platform.properties]
    assert properties == [("Arch", "x86_64"), ("OSFamily", "linux")]
    root = command.working_directory
    found = files_of(built, action.input_root_digest)
    assert {name.removeprefix(f"{root}/") for name in found} == {
        "run.sh",
        "workspace/crates/core/Cargo.toml",
        "workspace/crates/core/src/lib.rs",
        "workspace/crates/core/src/a.rs",
        "workspace/crates/core/data/table.txt",
        "target/debug/deps/libdirect-1.rmeta",
        "target/debug/deps/libindirect-3.rmeta",
        "target/debug/deps/libmac-2.so",
        "target/debug/build/core-77/out/gen.rs",
        "toolchain/bin/rustc",
        "toolchain/lib/librustc_driver.so",
        f"toolchain/lib/rustlib/{HOST}/lib/libstd.rlib",
    }
    for name, data in found.items():
        assert str(alice.base).encode() not in data, name


def test_a_linking_action_names_its_link_set(alice: Checkout) -> None:
    built = alice.with_options("--crate-type bin").action()
    action = re_pb.Action.FromString(blob_of(built, built.digest.to_message()))
    assert (PROPERTY, "aa") in [(p.name, p.value) for p in action.platform.properties]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("-L native=/opt/odd", "/opt/odd"),
        ("--extern other=/elsewhere/libother-1.rmeta", "other-1"),
        ("--extern unknown={target}/debug/deps/libunrelated-4.rmeta", "unrelated-4"),
    ],
)
def test_what_cannot_be_shared_is_named(alice: Checkout, extra: str, reason: str) -> None:
    with pytest.raises(NotUnderstood, match=reason):
        alice.with_options(extra).digest()
