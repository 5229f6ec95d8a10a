"""Reasons for compiling here come about as docs/not-cached.md says."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from developers import developer, outputs
from running import RunningServer, running_server

from server.actioncache.directory import DirectoryActionCache
from server.blobstore.disk import DiskBlobStore
from tests.wrapper.reason_texts import (
    provokes,
)
from tests.wrapper.test_action_key import OPTIONS, RUSTC, Checkout, checkout, write
from wrapper.action import platform_of
from wrapper.found import Result
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.collect import Collector
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.snapshot import MAX_FILES
from wrapper.inputs.toolchain import Toolchains
from wrapper.inputs.unit_records import UnitRecord, UnitRecords, record_of
from wrapper.keys.journal import KeyJournal
from wrapper.ladder import NEW, Ask, Ladder, Miss, check
from wrapper.local_tier import LocalTier
from wrapper.preferred import PREFERRED
from wrapper.remote import Remote
from wrapper.result_checks import CompileHere, Unit, environment_not_carried
from wrapper.roots import OutsideRoots
from wrapper.rustc.arguments import NotUnderstood, parse

BARE = "{rustc} --crate-name x src/lib.rs --emit=dep-info,link --out-dir /w/target/debug/deps"
COMMAND_LINES = {
    "option … is not known to the wrapper": f"{BARE} --from-the-future",
    "option … has no value": f"{BARE} --cfg",
    "option … is used": f"{BARE} --sysroot /x",
    "-C … may read files that the wrapper cannot see": f"{BARE} -C profile-use=/x",
    "-C rpath puts into programs where this machine has the toolchain": f"{BARE} -Crpath",
    "arguments come from a file": f"{BARE} @arguments",
    "… source files are named, not one": f"{BARE} src/main.rs",
    "emits …": f"{BARE} --emit=obj",
    "has no crate name or no output directory": "{rustc} src/lib.rs --emit=link",
    "has the crate type …": f"{BARE} --crate-type odd",
    "the target specification … has no absolute path": f"{BARE} --target mine.json",
    "links …, which may be a file that no key has": f"{BARE} -l static:+verbatim=probe",
}


@pytest.mark.parametrize("reason", COMMAND_LINES)
def test_command_lines(reason: str) -> None:
    with pytest.raises(NotUnderstood) as raised:
        parse(shlex.split(COMMAND_LINES[reason].format(rustc="/tc/bin/rustc")))
    provokes(reason, str(raised.value))


def _many_files(alice: Checkout) -> None:
    directory = alice.workspace / "crates/core/src/many"
    directory.mkdir()
    for number in range(MAX_FILES + 1):
        (directory / str(number)).touch()


def _odd_name(alice: Checkout) -> None:
    (alice.workspace / os.fsdecode(b"crates/core/src/\xff")).touch()


def _without_dependency(alice: Checkout) -> None:
    for suffix in ("rmeta", "rlib"):
        (alice.target / f"debug/deps/libdirect-1.{suffix}").unlink()


def _odd_compiler(alice: Checkout) -> None:
    """Before others on PATH."""
    write(alice.base / "bin" / "cc", "#!/bin/sh\n")
    (alice.base / "bin" / "cc").chmod(0o755)


FILES: dict[str, Callable[[Checkout], None]] = {
    "… has a file whose name is not UTF-8": _odd_name,
    "… has more than … files": _many_files,
    "its dependency … is not in …": _without_dependency,
}
WASM = "--crate-type bin --target wasm32-unknown-unknown"
OPTIONS_OF = {
    "reads …, which has no shared name": "-L native=/opt/lib",
    "its dependency … was built without cargo-distbuild, or elsewhere": (
        "--extern u={target}/debug/deps/libunrelated-4.rmeta"
    ),
    "links with …, which writes a file of its own": (
        "--crate-type bin -C link-arg=-Wl,-Map=/w/x.map"
    ),
    "links with …, which may read what no key names": "--crate-type bin -C link-arg=/opt/x.ld",
    "links with …, which is not one of this machine's own programs": (
        "--crate-type bin -C linker=/opt/ld"
    ),
    "links the system library …, which is not found": "--crate-type bin -lno-such-library",
    "links the library … with rustc's own linker": f"{WASM} -lm",
}
VARIABLES = {
    "cargo gave no CARGO_MANIFEST_DIR": {"CARGO_MANIFEST_DIR": ""},
    "package … lies outside of the workspace …": {"CARGO_MANIFEST_DIR": "/elsewhere"},
}


def _script(text: str) -> Callable[[Path], str]:
    def make(directory: Path) -> str:
        driver = directory / "bin" / "rustc"
        write(driver, f"#!/bin/sh\n{text}\n")
        driver.chmod(0o755)
        return str(driver)

    return make


def _among_the_systems(directory: Path) -> str:
    """Some program of /usr/bin has the driver's part, with a rustc beside it that says /usr."""
    _script("echo /usr")(directory)
    driver = directory / "bin" / "env"
    driver.symlink_to("/usr/bin/env")
    return str(driver)


def _alone(directory: Path) -> str:
    driver = directory / "driver"
    driver.touch()
    return str(driver)


COMPILERS: dict[str, Callable[[Path], str]] = {
    "the compiler … is not named by an absolute path": lambda _: "rustc",
    "cannot read the compiler …: …": lambda directory: str(directory / "none"),
    "the compiler … has no rustc beside it": _alone,
    "cannot ask … about itself: …": _script("exit 1"),
    "the compiler … is not part of its sysroot …": _script("echo /nowhere"),
    "the compiler shares … with other programs": _among_the_systems,
}


@pytest.mark.parametrize("reason", COMPILERS)
def test_compilers(tmp_path: Path, reason: str) -> None:
    with pytest.raises(NotUnderstood) as raised:
        toolchains = Toolchains(FileDigests(PREFERRED), BuildStarts())
        toolchains.find(COMPILERS[reason](tmp_path), dict(os.environ))
    provokes(reason, str(raised.value))


async def _not_expected(result: Result) -> None:
    raise AssertionError(f"{result.outcome}: nothing is there to be early with")


@dataclass
class Rung:
    """A ladder on real stores, and the unit that goes down it."""

    ladder: Ladder
    local: LocalTier
    units: UnitRecords
    collector: Collector
    journal: KeyJournal
    alice: Checkout

    def unit(self, extra: str = "") -> Unit:
        """The member's compile; `extra` are more options."""
        text = f"{self.alice.options} {extra}".format(target=self.alice.target)
        invocation = parse([f"{self.alice.base}/tc/bin/{self.alice.driver}", *shlex.split(text)])
        environment = self.alice.all_environment()
        environment["PATH"] = self.alice.environment.get("PATH", os.environ["PATH"])
        roots = self.collector.roots(invocation, str(self.alice.workspace), environment)
        return Unit(invocation=invocation, roots=roots, environment=environment)

    async def reason(
        self, remote: Remote | str | None = None, extra: str = "", *, has_idle_core: bool = False
    ) -> str:
        """Why the unit is compiled here."""
        try:
            ask = Ask(
                unit=self.unit(extra), remote=remote, instance="", on_early=_not_expected,
                has_idle_core=lambda: has_idle_core,
            )  # fmt: skip
            found = await self.ladder.resolve(ask)
        except (CompileHere, NotUnderstood, OutsideRoots) as error:
            return str(error)
        assert isinstance(found, Miss)
        return found.reason

    def compiler(self, does: str) -> None:
        """Let the toolchain's rustc do something when it is to compile."""
        driver = self.alice.base / "tc" / "bin" / "rustc"
        driver.write_text(RUSTC.replace("esac", f"*) {does} ;;\nesac"))


@asynccontextmanager
async def rung(directory: Path) -> AsyncIterator[Rung]:
    alice = checkout(directory / "alice")
    store = await DiskBlobStore.open(directory / "cache", durable=False)
    local = LocalTier(
        store, store, DirectoryActionCache(directory / "cache" / "results"), lambda: None
    )
    units = UnitRecords(directory / "units.sqlite")
    journal = KeyJournal(directory / "keys.sqlite")
    collector = Collector(FileDigests(PREFERRED), units, BuildStarts())
    deps = alice.target / "debug" / "deps"
    units.add(f"{deps}/direct-1", UnitRecord(externs=()))
    (directory / "mac").mkdir()
    units.add(f"{deps}/mac-2", UnitRecord(externs=(), package=str(directory / "mac")))
    try:
        ladder = Ladder(collector, local, journal)
        yield Rung(
            ladder=ladder, local=local, units=units, collector=collector, journal=journal,
            alice=alice,
        )  # fmt: skip
    finally:
        await store.close()
        units.close()
        journal.close()


@pytest.fixture
async def rungs(tmp_path: Path) -> AsyncIterator[Rung]:
    async with rung(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server"), "--workers", "1") as running:
        yield running


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Remote]:
    remote = Remote(url, "")
    try:
        yield remote
    finally:
        await remote.close()


async def test_new_and_unreadable(rungs: Rung) -> None:
    provokes("new: no cache had it", await rungs.reason())
    shutil.rmtree(rungs.alice.workspace / "crates" / "core")
    provokes("cannot read …: …", await rungs.reason())


def test_no_dep_info(tmp_path: Path) -> None:
    invocation = parse(shlex.split(BARE.format(rustc="/r").replace("dep-info,", "")))
    unit = Unit(invocation=invocation, roots=None, environment={})  # type: ignore[arg-type]
    with pytest.raises(NotUnderstood) as raised:
        check(unit)
    provokes("writes no … to check it by", str(raised.value))


@pytest.mark.parametrize("reason", FILES)
async def test_files(rungs: Rung, reason: str) -> None:
    FILES[reason](rungs.alice)
    provokes(reason, await rungs.reason())


@pytest.mark.parametrize("reason", OPTIONS_OF)
async def test_options(rungs: Rung, reason: str) -> None:
    provokes(reason, await rungs.reason(extra=OPTIONS_OF[reason]))


@pytest.mark.parametrize("reason", VARIABLES)
async def test_variables(rungs: Rung, reason: str) -> None:
    rungs.alice = rungs.alice.with_environment(**VARIABLES[reason])
    provokes(reason, await rungs.reason())


async def test_linker_scripts(rungs: Rung) -> None:
    linked = "--crate-type bin -C link-arg=-Tmine.x"
    assert await rungs.reason(extra=linked) == NEW
    (rungs.alice.workspace / "memory.x").touch()
    said = await rungs.reason(extra=linked)
    provokes("links with …, and … lies in the workspace's root", said)


async def test_a_library_that_a_macro_names(rungs: Rung) -> None:
    source = rungs.alice.workspace / "crates/core/src/links.rs"
    source.write_text('macro_rules! l { ($n:literal) => { #[link(name = $n)] extern "C" {} } }')
    said = await rungs.reason(extra="--crate-type bin")
    provokes("links a library whose name a macro puts in", said)


async def test_targets(rungs: Rung) -> None:
    alice = rungs.alice
    rungs.alice = alice.with_environment(RUST_TARGET_PATH="/x")
    said = await rungs.reason(extra="--target mine")
    provokes("its target may be specified by a file that no option names", said)
    rungs.alice = alice
    (alice.workspace / "mine.json").touch()
    said = await rungs.reason(extra="--target mine")
    provokes("its target may be specified by a file that no option names", said)
    file = alice.workspace / "mine.json"
    linked = f"--crate-type bin --target {file}"
    file.write_text("no JSON")
    provokes("the target specification … cannot be read: …", await rungs.reason(extra=linked))
    file.write_text("{}")
    provokes("links as … says, with …", await rungs.reason(extra=linked))
    assert await rungs.reason(extra=f"--target {file}") == NEW, "a library"
    left_out = alice.workspace / "crates/core/node_modules/mine.json"
    write(left_out, "{}")
    said = await rungs.reason(extra=f"--target {left_out}")
    provokes("reads …, which has no shared name", said)
    file.write_text('{"llvm-args": ["-load=/x"]}')
    said = await rungs.reason(extra=f"--target {file}")
    provokes("… has …, which may have the compiler read anything", said)


async def test_an_odd_output_directory(rungs: Rung) -> None:
    odd = OPTIONS.replace("{target}/debug/deps", "/odd", 1)
    rungs.alice = replace(rungs.alice, options=odd)
    provokes("the output directory … is not one of cargo's", await rungs.reason())


async def test_clippys_settings(rungs: Rung) -> None:
    alice = replace(rungs.alice, driver="clippy-driver")
    rungs.alice = alice.with_environment(CLIPPY_CONF_DIR="/x")
    provokes("clippy's settings come from CLIPPY_CONF_DIR", await rungs.reason())


def test_no_c_compiler(tmp_path: Path) -> None:
    invocation = parse(shlex.split(BARE.format(rustc="/r")))
    with pytest.raises(NotUnderstood) as raised:
        platform_of(invocation, machine="x86_64", set_digest=None)
    said = str(raised.value)
    provokes("this machine has no working C compiler to compare linkers by", said)


async def test_another_cc(rungs: Rung) -> None:
    _odd_compiler(rungs.alice)
    search = f"{rungs.alice.base}/bin:{os.environ['PATH']}"
    rungs.alice = rungs.alice.with_environment(PATH=search)
    provokes("… on this user's PATH is …", await rungs.reason(extra="--crate-type bin"))


@pytest.mark.parametrize("name", ["LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX"])
async def test_a_linker_that_looks_elsewhere(rungs: Rung, name: str) -> None:
    bin_ = "--crate-type bin"
    rungs.alice = rungs.alice.with_environment(**{name: "/usr/lib"})
    assert "linker look" not in await rungs.reason(extra=bin_)
    rungs.alice = rungs.alice.with_environment(**{name: f"/usr/lib:{rungs.alice.base}"})
    provokes("… has the linker look in …", await rungs.reason(extra=bin_))


async def test_no_server(rungs: Rung) -> None:
    async with connected("grpc://127.0.0.1:1") as remote:
        provokes("the server …: …", await rungs.reason(remote))
        provokes("the server … is left alone: it …", await rungs.reason(remote))


async def test_a_macro_that_reads(rungs: Rung, tmp_path: Path) -> None:
    write(tmp_path / "mac" / "src" / "lib.rs", "std::env::vars()")
    os.utime(tmp_path / "mac" / "src" / "lib.rs", (2e9, 2e9))
    provokes("a macro may read what no key names: …", await rungs.reason())


async def test_a_c_library_that_reads_is_no_macro(rungs: Rung, tmp_path: Path) -> None:
    """`crate-type = ["cdylib", "rlib"]` leaves a shared library too, which rustc does not run."""
    write(tmp_path / "mac" / "src" / "lib.rs", "std::env::vars()")
    stem = f"{rungs.alice.target}/debug/deps/mac-2"
    rungs.units.add(stem, replace(rungs.units.get(stem), types=("cdylib", "rlib")))
    assert await rungs.reason() == NEW
    rungs.units.add(stem, replace(rungs.units.get(stem), types=("proc-macro",)))
    provokes("a macro may read what no key names: …", await rungs.reason())


async def test_being_edited(rungs: Rung, server: RunningServer) -> None:
    stem, record = record_of(rungs.unit().invocation)
    rungs.units.add(stem, replace(record, key="of what it was before"))
    (rungs.alice.target / "debug" / "incremental" / "core_lib-1").mkdir(parents=True)
    (rungs.alice.target / "debug" / "deps" / "core_lib-99aa.d").touch()
    async with connected(server.url) as remote:
        said = await rungs.reason(remote)
        provokes("being edited: the compiler works on from where it was", said)


async def test_crowded(rungs: Rung, server: RunningServer) -> None:
    rungs.compiler("sleep 3; exit 3")
    async with connected(server.url) as remote:
        first = asyncio.create_task(rungs.reason(remote))
        while not await remote.is_crowded():
            await asyncio.sleep(0.05)
        said = await rungs.reason(remote, has_idle_core=True)
        provokes("all workers are busy, and this machine is not", said)
        assert "exit code 3" in await first


CHAIN = """n=1; while [ -n "$(eval echo \\$A$n)" ]; do n=$((n + 1)); done
echo "environment variable \\`A$n\\` not defined at compile time" >&2; exit 1"""
OUTPUTS = 'for last in "$@"; do case "$before" in --out-dir) out=$last;; esac; before=$last; done'
NAMES = "core_lib-99aa.d libcore_lib-99aa.rlib libcore_lib-99aa.rmeta"
WORKERS = {
    "did not compile on … (exit code …)": "exit 3",
    "the result lacks …": "exit 0",
    "reads ever more than it is given": CHAIN,
    "its output holds the path where it was compiled": (
        f'{OUTPUTS}; for name in {NAMES}; do echo "$out" > "$out/$name"; done'
    ),
    "it reads …, which is no input": (
        f'{OUTPUTS}; for name in {NAMES}; do echo "crates/../../x.rs:" > "$out/$name"; done'
    ),
    "… failed: …": (
        f'{OUTPUTS}; for name in {NAMES}; do mkdir "$out/$name"; done;'
        ' touch "$(printf "$out/core_lib-99aa.d/\\377")"'
    ),
}


@pytest.mark.parametrize("reason", WORKERS)
async def test_workers(rungs: Rung, server: RunningServer, reason: str) -> None:
    variables = {f"A{number}": "x" for number in range(1, 20)}
    rungs.alice = rungs.alice.with_environment(**variables)
    rungs.compiler(WORKERS[reason])
    async with connected(server.url) as remote:
        provokes(reason, await rungs.reason(remote))


SOURCES = {
    "puts the path in … into it": ('env!("CARGO_MANIFEST_DIR")', "{manifest}"),
    "a macro of another crate puts the path in … into it": ("", "{manifest}"),
    "read another … on the worker than here": ("", "elsewhere"),
}


@pytest.mark.parametrize("reason", SOURCES)
async def test_what_the_environment_says(rungs: Rung, reason: str) -> None:
    source, value = SOURCES[reason]
    (rungs.alice.workspace / "crates/core/src/lib.rs").write_text(source)
    unit = rungs.unit()
    name = "CARGO_PKG_NAME" if value == "elsewhere" else "CARGO_MANIFEST_DIR"
    value = value.format(manifest=unit.environment[name])
    dep_info = (
        f"x.d: crates/core/src/lib.rs\n\ncrates/core/src/lib.rs:\n\n# env-dep:{name}={value}\n"
    )
    with pytest.raises(CompileHere) as raised:
        environment_not_carried(unit, dep_info.encode(), set(), lambda _: False)
    provokes(reason, str(raised.value))


@pytest.mark.cargo
def test_a_result_that_cannot_be_put_down(tmp_path: Path) -> None:
    with developer(tmp_path / "dev", "none") as dev:
        checkout = tmp_path / "x"
        write(checkout / "Cargo.toml", '[package]\nname = "x"\nversion = "0.1.0"\n[workspace]\n')
        write(checkout / "src" / "lib.rs", "")
        dev.build(checkout)
        made = outputs(checkout / "target/debug", "x-*.d")[0]
        shutil.rmtree(checkout / "target")
        made.mkdir(parents=True)
        dev.run("cargo", "distbuild", "build", cwd=checkout, check=False)
        said = [unit["reason"] for unit in dev.units(checkout)]
        provokes("the result could not be used: …", said[0])
