"""An action run by real rustc in a bare input root gives the bytes that rustc gives here."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, build_action, platform_of
from wrapper.dep_info import environment_read, rewrite_dep_info, rewrite_messages
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.collect import Collector
from wrapper.inputs.environment import environment_of_action
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.toolchain import machine
from wrapper.inputs.unit_records import UnitRecords, record_of
from wrapper.roots import OUTPUTS, ROOT_DIRECTORY, Roots
from wrapper.rustc.arguments import Invocation, parse
from wrapper.rustc.outputs import dep_info_name, output_names
from wrapper.script import root_of

SHA256 = DigestFunction.SHA256
FILES = {
    "util/Cargo.toml": "",
    "util/src/lib.rs": """//! Used by app.
pub fn where_am_i() -> &'static str { file!() }
pub fn fails(x: Option<u32>) -> u32 { x.expect("nothing") }
#[inline]
pub fn generic<T: std::fmt::Debug>(t: T) -> String { format!("{t:?} {}", line!()) }
""",
    "app/Cargo.toml": "",
    "app/src/main.rs": """mod part;
include!(concat!(env!("OUT_DIR"), "/generated.rs"));
const DATA: &str = include_str!("../data.txt");
fn main() {
    let unused = 1;
    println!("{} {} {GENERATED} {DATA}", util::generic(part::f()), util::where_am_i());
    println!("{} {}", env!("CARGO_PKG_NAME"), env!("BUILT"));
    if std::env::args().count() > 5 { util::fails(None); }
}
""",
    "app/src/part.rs": "pub fn f() -> (u8, &'static str) { (1, file!()) }\n",
    "app/data.txt": "data",
}
COMMON = """--edition=2021 --error-format=json --json=diagnostic-rendered-ansi,artifacts
-C debuginfo=2 -C embed-bitcode=no --out-dir {target}/debug/deps
-L dependency={target}/debug/deps"""
UTIL = "--crate-name util util/src/lib.rs --crate-type lib --emit=dep-info,metadata,link"
APP = """--crate-name app app/src/main.rs --crate-type {kind} --emit=dep-info,link
--extern util={target}/debug/deps/libutil-11.rlib -C incremental={target}/debug/incremental"""
APP_LIB = """--crate-name app app/src/main.rs --crate-type lib --emit=dep-info,metadata,link
--extern util={target}/debug/deps/libutil-11.rmeta"""


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture(scope="module")
def rustc() -> str:
    asked = ["rustc", "--print", "sysroot"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    return f"{done.stdout.strip()}/bin/rustc"


@dataclass
class Workspace:
    """A workspace in which cargo's calls are made by hand."""

    path: Path
    target: Path
    rustc: str
    units: UnitRecords
    collector: Collector

    def environment(self, package: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "CARGO_MANIFEST_DIR": f"{self.path}/{package}",
            "CARGO_PKG_NAME": package,
            "CARGO_PKG_VERSION": "0.1.0",
            "OUT_DIR": f"{self.target}/debug/build/app-1/out",
            "BUILT": 'it\'s "built"',
        }

    def understand(self, package: str, options: str) -> tuple[Invocation, list[str], Roots]:
        target = shlex.quote(str(self.target))
        argv = [self.rustc, *shlex.split(f"{options} {COMMON}".format(target=target))]
        argv += ["-C", "metadata=42", "-C", "extra-filename=-11"]
        invocation = parse(argv)
        environment = self.environment(package)
        roots = self.collector.roots(invocation, str(self.path), environment)
        return invocation, argv, roots

    def compile_here(self, package: str, options: str) -> dict[str, bytes]:
        """As the shim does it; the outputs by name, and stderr under ""."""
        invocation, argv, roots = self.understand(package, options)
        # rustc would put incremental code into a program: what is shared is without
        argv = [a for a in argv if not a.startswith("incremental=")]
        argv = [a for i, a in enumerate(argv) if not (a == "-C" and argv[i + 1][0] == "-")]
        done = subprocess.run(
            [*argv, *roots.remap_options(staged=False)], cwd=self.path,
            env=self.environment(package), capture_output=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.units.add(*record_of(invocation))
        found = {name: self.output(name).read_bytes() for name in output_names(invocation)}
        return found | {"": rewrite_messages(done.stderr, roots.recorded_to_real())}

    def output(self, name: str) -> Path:
        return self.target / "debug" / "deps" / name

    def action(self, package: str, options: str) -> tuple[BuiltAction, Invocation, Roots]:
        invocation, _, roots = self.understand(package, options)
        environment = self.environment(package)
        built = build_action(
            invocation=invocation,
            roots=roots,
            environment=environment_of_action(environment),
            inputs=self.collector.collect(invocation, roots, environment),
            platform=platform_of(invocation, machine(), "set"),
        )
        return built, invocation, roots


@pytest.fixture
def workspace(tmp_path: Path, rustc: str) -> Iterator[Workspace]:
    base = tmp_path / "a user's workspace"
    for name, content in FILES.items():
        write(base / name, content)
    target = base / "target"
    write(target / "CACHEDIR.TAG", "")
    (target / "debug" / "deps").mkdir(parents=True)
    build = target / "debug" / "build" / "app-1"
    write(build / "out" / "generated.rs", 'const GENERATED: &str = "generated";\n')
    write(build / "output", "cargo::rustc-env=BUILT=x\n")
    units = UnitRecords(tmp_path / "units.sqlite")
    collector = Collector(FileDigests(SHA256), units, BuildStarts())
    yield Workspace(base, target, rustc, units, collector)
    units.close()


def lay_out(built: BuiltAction, digest: re_pb.Digest, directory: Path) -> None:
    """Make an input root, as a worker would."""
    directory.mkdir()
    data = built.blobs[Digest.from_message(digest, SHA256)]
    assert isinstance(data, bytes)
    message = re_pb.Directory.FromString(data)
    for file in message.files:
        source = built.blobs[Digest.from_message(file.digest, SHA256)]
        path = directory / file.name
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            place(Path(source), path)
        if file.is_executable and not os.access(path, os.X_OK):
            path.chmod(0o755)
    for link in message.symlinks:
        (directory / link.name).symlink_to(link.target)
    for child in message.directories:
        lay_out(built, child.digest, directory / child.name)


def place(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:
        shutil.copy2(source, path)


def run(built: BuiltAction, root: Path) -> subprocess.CompletedProcess[bytes]:
    """Execute an action as REAPI says, with nothing but the input root."""

    def message(digest: re_pb.Digest) -> bytes:
        data = built.blobs[Digest.from_message(digest, SHA256)]
        assert isinstance(data, bytes)
        return data

    action = re_pb.Action.FromString(message(built.digest.to_message()))
    command = re_pb.Command.FromString(message(action.command_digest))
    lay_out(built, action.input_root_digest, root)
    directory = root / command.working_directory
    for output in command.output_paths:
        (directory / output).parent.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        list(command.arguments), cwd=directory, capture_output=True, timeout=100, check=False,
        env={v.name: v.value for v in command.environment_variables},
    )  # fmt: skip


def shown(stderr: bytes, root: str, roots: Roots) -> bytes:
    """What the user sees of a worker's messages."""
    return rewrite_messages(stderr, [*roots.staged_to_real(root), *roots.recorded_to_real()])


def rules(dep_info: bytes) -> list[bytes]:
    """The lines in any order; rustc escapes spaces in what is read and not in what is made."""
    return sorted(line.replace(b"\\ ", b" ") for line in dep_info.splitlines())


def messages(stderr: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in stderr.splitlines()]


@pytest.mark.cargo
@pytest.mark.parametrize("kind", ["lib", "bin"])
def test_a_worker_makes_the_same_bytes(workspace: Workspace, tmp_path: Path, kind: str) -> None:
    workspace.compile_here("util", UTIL)
    options = APP_LIB if kind == "lib" else APP.replace("{kind}", kind)
    here = workspace.compile_here("app", options)
    built, invocation, roots = workspace.action("app", options)
    root = tmp_path / "somewhere-quite-'different'-$x"
    done = run(built, root)
    assert done.returncode == 0, done.stderr
    printed, stdout = root_of(done.stdout)
    assert printed == str(root / ROOT_DIRECTORY)
    assert stdout == b""

    outputs = root / ROOT_DIRECTORY / OUTPUTS
    dep_info = dep_info_name(invocation)
    for name in built.required_names:
        data = (outputs / name).read_bytes()
        if name == dep_info:
            data = rewrite_dep_info(data, roots.staged_to_real(printed))
            assert environment_read(data) == environment_read(here[name])
            assert rules(data) == rules(here[name])
        else:
            assert str(root).encode() not in data
            assert str(workspace.path).encode() not in data
            assert data == here[name], f"{name} differs"

    there = shown(done.stderr, printed, roots)
    assert messages(there) == messages(here[""])
    artifacts = {str(m["artifact"]) for m in messages(there) if "artifact" in m}
    wanted = {str(workspace.output(n)) for n in built.required_names if n[-2:] != ".d"}
    assert artifacts - {str(workspace.output(dep_info))} == wanted


@pytest.mark.cargo
def test_a_program_made_by_a_worker_runs(workspace: Workspace, tmp_path: Path) -> None:
    workspace.compile_here("util", UTIL)
    built, invocation, _ = workspace.action("app", APP.replace("{kind}", "bin"))
    assert run(built, tmp_path / "root").returncode == 0
    program = tmp_path / "root" / ROOT_DIRECTORY / OUTPUTS / output_names(invocation)[0]
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        '(1, "app/src/part.rs") 5 util/src/lib.rs generated data',
        'app it\'s "built"',
    ]


@pytest.mark.cargo
def test_an_error_is_an_error_there_too(workspace: Workspace, tmp_path: Path) -> None:
    workspace.compile_here("util", UTIL)
    write(workspace.path / "app" / "src" / "part.rs", "pub fn f() -> u8 { missing }\n")
    built, _, roots = workspace.action("app", APP_LIB)
    done = run(built, tmp_path / "root")
    assert done.returncode == 1
    printed, _ = root_of(done.stdout)
    there = shown(done.stderr, printed, roots)
    assert any(m.get("level") == "error" for m in messages(there))
    assert str(tmp_path / "root").encode() not in there
