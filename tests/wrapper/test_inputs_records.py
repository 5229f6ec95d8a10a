"""What the wrapper remembers of units, and which variables belong to a compile."""

from __future__ import annotations

import os
import shlex
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wrapper.inputs.environment import build_script_variables, environment_of_action, of_target
from wrapper.inputs.unit_records import UnitRecord, UnitRecords, native_paths, record_of, stem_of
from wrapper.rustc.arguments import Invocation, NotUnderstood, parse
from wrapper.wording import BUILT_ELSEWHERE


def invocation(extra: str) -> Invocation:
    text = f"--crate-name core_lib src/lib.rs --emit=link --out-dir /t/deps {extra}"
    return parse(["/tc/bin/rustc", *shlex.split(text)])


@pytest.fixture
def units(tmp_path: Path) -> Iterator[UnitRecords]:
    found = UnitRecords(tmp_path / "units.sqlite")
    yield found
    found.close()


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("/t/deps/libserde-ab.rmeta", "/t/deps/serde-ab"),
        ("/t/deps/libserde-ab.rlib", "/t/deps/serde-ab"),
        ("/t/deps/libmac-ab.so", "/t/deps/mac-ab"),
        ("/t/deps/liblibc-ab.rmeta", "/t/deps/libc-ab"),
        ("/t.d/lib.x/libcdy.so", "/t.d/lib.x/cdy"),
    ],
)
def test_all_outputs_of_a_unit_have_one_stem(path: str, stem: str) -> None:
    assert stem_of(path) == stem


@pytest.mark.parametrize("name", ["core_lib", "libc", "lib"])
def test_the_stem_of_a_compile_is_that_of_its_outputs(name: str) -> None:
    text = f"--crate-name {name} src/lib.rs --emit=link --out-dir /t/deps -C extra-filename=-ab"
    stem, _ = record_of(parse(["/tc/bin/rustc", *text.split()]))
    assert stem == stem_of(f"/t/deps/lib{name}-ab.rmeta") == f"/t/deps/{name}-ab"


def test_the_record_of_a_compile() -> None:
    found = invocation(
        "-C extra-filename=-12 --extern a=/t/deps/liba-1.rmeta --extern proc_macro"
        " --extern noprelude:b=/t/deps/libb-2.so -L dependency=/t/deps -L native=/o/n -L /o/all"
        " -L native=/o/n -l static=x -l static:+whole-archive=y -l dylib=z -lssl"
    )
    stem, record = record_of(found)
    assert stem == "/t/deps/core_lib-12"
    assert record.externs == ("/t/deps/a-1", "/t/deps/b-2")
    assert record.native == native_paths(found) == ("/o/n", "/o/all")
    assert record.system == ("dylib=z", "ssl")


def test_closures(units: UnitRecords) -> None:
    records = {
        "/d/a": UnitRecord(externs=("/d/b", "/d/c")),
        "/d/b": UnitRecord(externs=("/d/d",)),
        "/d/c": UnitRecord(externs=("/d/d",), native=("/n",), system=("z",)),
        "/d/d": UnitRecord(externs=()),
        "/d/other": UnitRecord(externs=()),
    }
    for stem, record in records.items():
        units.add(stem, record)
    del records["/d/other"]
    assert units.closure(["/d/a", "/d/b"]) == records
    assert units.closure([]) == {}


def test_a_unit_that_was_never_seen_is_named(units: UnitRecords) -> None:
    units.add("/d/a", UnitRecord(externs=("/d/missing-1",)))
    with pytest.raises(NotUnderstood, match=f"missing-1 {BUILT_ELSEWHERE}"):
        units.closure(["/d/a"])


def test_records_outlive_the_process(tmp_path: Path) -> None:
    record = UnitRecord(externs=("/d/b",), native=("/n ü",), system=("z",))
    first = UnitRecords(tmp_path / "u")
    first.add("/d/a", UnitRecord(externs=()))
    first.add("/d/a", record)
    first.close()
    second = UnitRecords(tmp_path / "u")
    assert second.get("/d/a") == record
    second.close()


def test_paths_that_are_not_utf_8(units: UnitRecords) -> None:
    stem = os.fsdecode(b"/w\xff/deps/a")
    units.add(stem, UnitRecord(externs=(stem,)))
    assert units.get(stem) == UnitRecord(externs=(stem,))


def test_many_threads(tmp_path: Path, units: UnitRecords) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(100):
                units.add(f"/d/{number}-{i}", UnitRecord(externs=(f"/d/{number}-{i - 1}",)[:i]))
                units.closure([f"/d/{number}-{i}"])
        except (sqlite3.Error, NotUnderstood) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(units.closure(["/d/3-99"])) == 100


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    units = UnitRecords(path)
    units.add("/t/deps/a-1", UnitRecord(externs=()))
    units.close()
    again = UnitRecords(path)
    assert again.find("/t/deps/a-1") == UnitRecord(externs=())
    again.close()


def test_a_file_that_is_damaged_within(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    units = UnitRecords(path)
    for number in range(500):
        units.add(f"/t/deps/a-{number}", UnitRecord(externs=(), package="/p" * 100))
    units.close()
    data = bytearray(path.read_bytes())
    data[8192:] = b"?" * (len(data) - 8192)
    path.write_bytes(data)
    again = UnitRecords(path)
    assert [again.find(f"/t/deps/a-{number}") for number in (1, 400)] == [None, None]
    again.add("/t/deps/a-1", UnitRecord(externs=()))
    again.close()
    third = UnitRecords(path)
    assert third.find("/t/deps/a-1") == UnitRecord(externs=())
    third.close()


CARGO = {
    "CARGO_PKG_NAME": "a",
    "CARGO_PKG_VERSION": "1.0.0",
    "CARGO_PKG_README": "README.md",
    "CARGO_CRATE_NAME": "a",
    "CARGO_BIN_NAME": "a",
    "CARGO_BIN_EXE_a-b": "/t/debug/a-b",
    "CARGO_MANIFEST_DIR": "/w",
    "CARGO_MANIFEST_PATH": "/w/Cargo.toml",
    "CARGO_MANIFEST_LINKS": "z",
    "CARGO_TARGET_TMPDIR": "/t/tmp",
    "RUSTC_BOOTSTRAP": "1",
}
OTHERS = {
    "CLIPPY_ARGS": "-Dwarnings",
    "CLIPPY_CONF_DIR": "/w",
    "HOME": "/u",
    "PATH": "/usr/bin",
    "USER": "u",
    "PWD": "/w",
    "TERM": "xterm",
    "COLUMNS": "80",
    "CARGO": "/tc/bin/cargo",
    "CARGO_HOME": "/u/.cargo",
    "CARGO_MAKEFLAGS": "-j",
    "CARGO_TARGET_DIR": "/t",
    "CARGO_INCREMENTAL": "0",
    "CARGO_PRIMARY_PACKAGE": "1",
    "CARGO_TERM_COLOR": "always",
    "CARGO_ENCODED_RUSTFLAGS": "",
    "RUSTC_WRAPPER": "/x",
    "RUSTUP_TOOLCHAIN": "stable",
    "LD_LIBRARY_PATH": "/t/deps",
    "CLIPPY_TERMINAL_WIDTH": "0",
    "AWS_SECRET_ACCESS_KEY": "s",
    "MY_VALUE": "1",
    "XCARGO_PKG_NAME": "x",
    "SOURCE_DATE_EPOCH": "1",
}


def test_cargos_own_variables_and_no_others() -> None:
    assert environment_of_action(CARGO | OTHERS) == CARGO


def test_where_programs_are_counts_for_tests_and_benches_alone() -> None:
    others = {name: value for name, value in CARGO.items() if name != "CARGO_TARGET_TMPDIR"}
    found = environment_of_action(others)
    assert others.keys() - found.keys() == {"CARGO_BIN_EXE_a-b"}
    assert environment_of_action(others, ["CARGO_BIN_EXE_a-b"]) == others


@pytest.mark.parametrize(
    ("target", "counts"),
    [
        ("", ""),
        ("x86_64-unknown-linux-musl", ""),
        ("x86_64-pc-windows-gnu", "SOURCE_DATE_EPOCH"),
        ("x86_64-unknown-uefi", "SOURCE_DATE_EPOCH"),
        ("aarch64-apple-ios", "IPHONEOS_DEPLOYMENT_TARGET MACOSX_DEPLOYMENT_TARGET"),
        ("/specs/own.json", "MACOSX_DEPLOYMENT_TARGET SOURCE_DATE_EPOCH"),
    ],
)
def test_what_a_targets_tools_ask_for(target: str, counts: str) -> None:
    options = f"--crate-name a src/lib.rs --emit=link --out-dir /t {target and '--target'} {target}"
    found = of_target(parse(["/tc/bin/rustc", *options.split()]))
    assert found >= set(counts.split())
    assert ("SOURCE_DATE_EPOCH" in found) == ("SOURCE" in counts)
    assert ("MACOSX_DEPLOYMENT_TARGET" in found) == ("MACOSX" in counts)


def test_the_order_is_always_the_same() -> None:
    reverse = dict(reversed(list((CARGO | OTHERS).items())))
    assert list(environment_of_action(reverse)) == list(environment_of_action(CARGO | OTHERS))


def test_learned_variables_are_added_where_they_are_set() -> None:
    found = environment_of_action(CARGO | OTHERS, ["MY_VALUE", "UNSET"])
    assert found == CARGO | {"MY_VALUE": "1"}


def test_the_build_scripts_variables(tmp_path: Path) -> None:
    """cargo keeps a build script's output beside its OUT_DIR."""
    out = tmp_path / "build" / "a-12" / "out"
    out.mkdir(parents=True)
    assert build_script_variables(str(out)) == set()
    assert build_script_variables(None) == set()
    (out.parent / "output").write_bytes(
        b"cargo:rustc-env=OLD=1\ncargo::rustc-env=NEW=a=b\n  cargo::rustc-env=NOT=1\n"
        b"cargo:warning=cargo:rustc-env=NEITHER=1\nnoise\xff\ncargo::rustc-env=LAST=\n"
        b"cargo:rerun-if-env-changed=HOME\ncargo::rustc-env=MISSING=1"
    )
    assert build_script_variables(str(out)) == {"OLD", "NEW", "LAST", "MISSING"}
    environment = {"OUT_DIR": str(out), "OLD": "1", "NEW": "a=b", "LAST": "", **OTHERS}
    assert environment_of_action(environment) == {
        "OUT_DIR": str(out), "OLD": "1", "NEW": "a=b", "LAST": "",
    }  # fmt: skip
