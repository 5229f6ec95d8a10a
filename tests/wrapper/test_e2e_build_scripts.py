"""Runs of build scripts are kept, shared, and run again when anything that they read is another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import Developer, of_scripts, outputs
from running import BIN, running_server
from scripts import built, curious, package, runs, someone

from tests.wrapper.reason_texts import provokes

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(900)]


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Developer]:
    with someone(tmp_path / "dev", None) as person:
        yield person


AT_FIRST = 'one|none|["file.txt", "sub"]|||none|linked|ref: one||debug|false|1'


def test_whatever_it_reads_makes_it_run_again(dev: Developer, tmp_path: Path) -> None:
    checkout = curious(tmp_path / "w")
    app = checkout / "app"
    assert built(dev, checkout) == ("local", AT_FIRST)
    assert built(dev, checkout) == ("hit-local", AT_FIRST)

    def written(path: Path, text: str, wanted: str) -> None:
        before = path.read_text() if path.exists() else None
        path.write_text(text)
        assert built(dev, checkout) == ("local", wanted)
        assert built(dev, checkout) == ("hit-local", wanted)
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
        assert built(dev, checkout) == ("hit-local", AT_FIRST)

    written(app / "data/file.txt", "two", AT_FIRST.replace("one|", "two|", 1))
    written(app / "data/sub/absent.txt", "here", AT_FIRST.replace("none", "here", 1))
    written(app / "data/new", "", AT_FIRST.replace('"file.txt"', '"file.txt", "new"'))
    written(app / "c/value.h", "#define VALUE 2\n", AT_FIRST[:-1] + "2")
    written(app / "linked/text", "other", AT_FIRST.replace("linked", "other"))
    written(checkout / ".git/HEAD", "ref: two", AT_FIRST.replace("ref: one", "ref: two"))
    home = Path(dev.extra["HOME"])
    written(home / ".noterc", "noted", AT_FIRST.replace("|||none", "|||noted"))


def test_variables_programs_and_cargos_settings(dev: Developer, tmp_path: Path) -> None:
    checkout = curious(tmp_path / "w")
    assert built(dev, checkout) == ("local", AT_FIRST)
    search = f"/nowhere:{dev.environment['PATH']}"
    assert built(dev, checkout, OF_NO_INTEREST="x", PATH=search) == ("hit-local", AT_FIRST)
    helper = tmp_path / "bin" / "helper-of-test"
    helper.parent.mkdir()
    helper.write_text("#!/bin/sh\necho helped\n")
    helper.chmod(0o755)
    search = f"{helper.parent}:{dev.environment['PATH']}"
    for arguments, environment, wanted in (
        ((), {"DECLARED": "a"}, AT_FIRST.replace("|||", "|a||")),
        ((), {"UNDECLARED": "b"}, AT_FIRST.replace("|||", "||b|")),
        ((), {"PATH": search}, AT_FIRST.replace("||debug", "|helped|debug")),
        (("--release",), {}, AT_FIRST.replace("debug", "release")),
        (("--features", "more"), {}, AT_FIRST.replace("false", "true")),
    ):
        for outcome in ("local", "hit-local"):
            assert built(dev, checkout, *arguments, **environment) == (outcome, wanted)
    script = checkout / "app" / "build.rs"
    script.write_text(script.read_text().replace('join("|")', 'join("/")'))
    assert built(dev, checkout)[0] == "local"


def test_another_checkout_of_another_user(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "0") as server:
        for name, outcome in (("alice", "local"), ("bob", "hit-remote")):
            directory = tmp_path / name
            with someone(directory, server.url) as person:
                checkout = curious(tmp_path / f"{name}s" / "place")
                assert built(person, checkout) == (outcome, AT_FIRST)
                (library,) = of_scripts(checkout / "target/debug", "app", "out/libvalue.a")
                assert os.fsencode(checkout) not in library.read_bytes()
                if name == "bob":  # what came from the server is known without it afterwards
                    person.remote = None
                    assert built(person, checkout) == ("hit-local", AT_FIRST)
    (link,) = of_scripts(checkout / "target/debug", "app", "out/link")
    assert os.readlink(link) == str(checkout / "app" / "linked")


def test_what_speaks_of_the_wrapper(tmp_path: Path) -> None:
    """The crate cc prints where the shim lies, which is elsewhere for everybody."""
    script = """
        fn main() {
            let shim = std::env::var("RUSTC_WRAPPER").unwrap();
            println!("RUSTC_WRAPPER = {shim}");
            println!("cargo:rustc-env=SHIM={shim}");
            println!("cargo:rerun-if-changed=build.rs");
        }
    """
    main = 'fn main() { println!("{}", env!("SHIM")); }'
    with running_server(tmp_path / "data", "--workers", "0") as server:
        for name, outcome in (("alice", "local"), ("bob", "hit-remote")):
            with someone(tmp_path / name, server.url) as person:
                checkout = package(tmp_path / f"{name}s" / "w", "app", script, "", main)
                shim = str(person.home / "bin" / "rustc-shim")
                assert built(person, checkout) == (outcome, shim)
                (said,) = (
                    *of_scripts(checkout / "target/debug", "app", "output"),
                    *of_scripts(checkout / "target/debug", "app", "run/stdout"),
                )
                assert f"RUSTC_WRAPPER = {shim}" in said.read_text()


def test_a_crate_with_c_from_the_registry(tmp_path: Path) -> None:
    main = 'fn main() { println!("{}", unsafe { libz_sys::zlibCompileFlags() } != 0); }'
    more = '[dependencies]\nlibz-sys = { version = "=1.1.31", features = ["static"] }\n'
    with running_server(tmp_path / "data", "--workers", "0") as server:
        for name, outcome in (("alice", "local"), ("bob", "hit-remote")):
            directory = tmp_path / name
            with someone(directory, server.url) as person:
                checkout = package(directory / "w", "app", "fn main() {}", more, main)
                person.build(checkout)
                assert runs(person, checkout)["libz-sys"]["outcome"] == outcome
                person.run("cargo", "distbuild", "stop", cwd=checkout)
                said = person.run(checkout / "target/debug/app", cwd=checkout).stdout
                assert said == "true\n"


CODE_NOT_KEPT = {
    "it writes …": 'fs::write("made.txt", "x").unwrap();',
    "it opens a network socket": 'let _ = std::net::TcpStream::connect("127.0.0.1:9");',
    "it talks to another program over a socket": (
        "use std::os::{linux::net::SocketAddrExt, unix::net::{SocketAddr, UnixStream}};"
        'let _ = UnixStream::connect_addr(&SocketAddr::from_abstract_name(b"none").unwrap());'
    ),
    "it leaves a program running": (
        'std::process::Command::new("sleep").arg("5").stdout(std::process::Stdio::null())'
        ".stderr(std::process::Stdio::null()).spawn().unwrap();"
    ),
    "it leaves … behind": (
        'fs::write(env::temp_dir().join(format!("distbuild-test-{}", std::process::id())), "")'
        ".unwrap();"
    ),
    "it reads …": 'fs::read("/proc/swaps").unwrap();',
    "it compiles for this machine's own processor": (
        'std::process::Command::new("cc").args(["-march=native", "-E", "-x", "c", "/dev/null"])'
        ".output().unwrap();"
    ),
    "it uses system call …": 'let _ = std::os::unix::fs::chroot("/nowhere");',
    "it names a file that cannot be seen": ('let _ = fs::metadata("x/".repeat(2040));'),
    "it runs a program of another architecture": (
        'extern "C" { fn syscall(n: i64) -> i64; } unsafe { syscall(0x4000_0027); }'
    ),
    "it makes a link whose end cannot be seen": (
        'let link = format!("{out}/link"); symlink("x/".repeat(2040), &link).unwrap();'
        "fs::remove_file(link).unwrap();"
    ),
    "it makes a link to … that is gone": (
        'let link = format!("{out}/link"); symlink("/nowhere", &link).unwrap();'
        "fs::remove_file(link).unwrap();"
    ),
    "what it makes holds …": (
        'let out = std::process::Command::new("date").output().unwrap().stdout;'
        'print!("cargo::rustc-env=DATE={}", String::from_utf8(out).unwrap());'
    ),
    "it makes …, which is no file": (
        'std::process::Command::new("mkfifo").arg(format!("{out}/pipe")).status().unwrap();'
    ),
    "it makes a file whose name is not UTF-8": (
        'fs::write(Path::new(&out).join(OsStr::from_bytes(b"\\xff")), "").unwrap();'
    ),
    "it makes more than is worth keeping": (
        'fs::File::create(format!("{out}/large")).unwrap().set_len((1 << 30) + 1).unwrap();'
    ),
    "it reads … files": ('for n in 0..20_001 { let _ = fs::metadata(format!("/nowhere/{n}")); }'),
    "it reads a file whose name is not UTF-8": (
        'let _ = fs::metadata(OsStr::from_bytes(b"/nowhere/\\xff"));'
    ),
    "it reads …, which is no file": 'fs::read_dir("{beside}/pipe").unwrap_err();',
    "it reads …: …": 'let _ = fs::metadata("x".repeat(300));',
    "… was changed while it ran": 'fs::read("{beside}/of tomorrow").unwrap();',
}
KEPT = """println!("cargo::rustc-env=WHO={}", env::var("SOME_NAME").unwrap());
fs::read("/proc/cpuinfo").unwrap();
fs::read("/proc/sys/kernel/hostname").unwrap();
for command in [["sed", "q"], ["ls", "-l"], ["cp", "--version"], ["find", "-quit"]] {
    std::process::Command::new(command[0]).arg(command[1]).stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null()).status().unwrap();
}"""
BEGIN = """#![allow(unused)]
use std::{env, fs, ffi::OsStr, path::Path, os::unix::{ffi::OsStrExt, fs::symlink}};
fn main() { let out = env::var("OUT_DIR").unwrap();
"""


def test_what_is_not_kept(dev: Developer, tmp_path: Path) -> None:
    """`cargo distbuild stats` has the reasons, those too that turn out after the build."""
    checkout = tmp_path / "w"
    (tmp_path / "tmp").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "of tomorrow").touch()
    os.utime(tmp_path / "of tomorrow", (4e9, 4e9))
    codes = {f"a{number}": code for number, code in enumerate(CODE_NOT_KEPT.values())}
    for name, code in {**codes, "kept": KEPT}.items():
        text = code.replace("{beside}", str(tmp_path))
        package(checkout / name, name, f"{BEGIN}{text}\n}}")
    members = json.dumps([*codes, "kept"])
    (checkout / "Cargo.toml").write_text(f'[workspace]\nmembers = {members}\nresolver = "2"\n')
    for again in (False, True):
        dev.run("cargo", "clean", cwd=checkout)
        dev.build(checkout, SOME_NAME="a name", TMPDIR=str(tmp_path / "tmp"))
        dev.run("cargo", "distbuild", "stop", cwd=checkout)  # all is kept that will be
        found = runs(dev, checkout)
        table = dev.run("cargo", "distbuild", "stats", cwd=checkout).stdout
        for name, reason in zip(codes, CODE_NOT_KEPT, strict=True):
            run = found[name]
            assert run["outcome"] == "local", run
            provokes(reason, run["reason"])
            assert table.count(run["reason"]) >= 2, table
        assert found["kept"]["outcome"] == ("hit-local" if again else "local")
        if again:
            shutil.rmtree(tmp_path / "tmp")


def test_a_cache_that_cannot_be_written(dev: Developer, tmp_path: Path) -> None:
    code = 'let cache = env::var("DISTBUILD_HOME").unwrap() + "/cache/";'
    code += 'fs::rename(cache.clone() + "tmp", cache + "away").unwrap();'
    code += 'fs::write(out + "/made", "made").unwrap();'
    checkout = package(tmp_path / "w", "app", f"{BEGIN}{code}\n}}")
    dev.build(checkout)
    dev.run("cargo", "distbuild", "stop", cwd=checkout)
    provokes("it could not be kept: …", runs(dev, checkout)["app"]["reason"])


def test_a_run_of_ci_is_another_for_those_who_ask(dev: Developer, tmp_path: Path) -> None:
    script = """fn main() {
        let done = std::process::Command::new("sh").arg("version.sh").output().unwrap();
        println!("cargo::rustc-env=SAID={}", String::from_utf8(done.stdout).unwrap().trim());
    }"""
    main = 'fn main() { println!("{}", env!("SAID")); }'
    checkout = package(tmp_path / "w", "app", script, main=main)
    (checkout / "version.sh").write_text("echo of $GITHUB_SHA\n")
    first = {"GITHUB_SHA": "aaaa", "GITHUB_RUN_ID": "1", "RUNNER_TEMP": "/t/1"}
    assert built(dev, checkout, **first) == ("local", "of aaaa")
    assert built(dev, checkout, **first | {"GITHUB_RUN_ID": "2", "RUNNER_TEMP": "/t/2"}) == (
        "hit-local", "of aaaa",
    )  # fmt: skip
    assert built(dev, checkout, **first | {"GITHUB_SHA": "bbbb"}) == ("local", "of bbbb")


def test_a_script_that_cargo_did_not_start(dev: Developer, tmp_path: Path) -> None:
    checkout = package(tmp_path / "w", "app", "fn main() {}")
    dev.build(checkout)
    debug = checkout / "target/debug"
    program = [
        *of_scripts(debug, "app", "build-script-build"),
        *outputs(debug, "build_script_build"),
    ][0]
    dev.run(program, cwd=checkout, RUSTC_WRAPPER="cargo-distbuild-wrapper", CARGO_PKG_NAME="app")
    provokes("cargo gave no OUT_DIR", runs(dev, checkout)["app"]["reason"])


def test_a_script_that_fails_is_heard_once(dev: Developer, tmp_path: Path) -> None:
    """Also one that minds what it made the first time."""
    script = """fn main() {
        let out = std::env::var("OUT_DIR").unwrap();
        std::fs::create_dir(format!("{out}/made")).expect("nothing was there");
        println!("said"); eprintln!("said too"); std::process::exit(7);
    }"""
    checkout = package(tmp_path / "w", "app", script)
    ours = dev.run("cargo", "distbuild", "build", cwd=checkout, check=False)
    why = runs(dev, checkout)["app"]["reason"]
    dev.run("cargo", "clean", cwd=checkout)
    plain = dev.run("cargo", "build", cwd=checkout, check=False)
    said = [line for line in ours.stderr.splitlines() if "Distbuild" not in line]
    assert ours.returncode == plain.returncode == 101
    assert ours.stderr.count("said too") == 1
    assert "exit status: 7" in ours.stderr
    provokes("it failed when it was watched", why)
    assert sorted(said) == sorted(plain.stderr.splitlines())


SAYS = 'fn main() { println!("{}", env!("SAID")); }'
WHERE = """fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/text"), &out).unwrap();
    println!("cargo::rustc-env=SAID={out}");
}"""


def test_a_run_that_says_where_it_was(dev: Developer, tmp_path: Path) -> None:
    app = package(tmp_path / "app", "app", WHERE, "[workspace]\n", SAYS)
    assert built(dev, app)[0] == "local"
    reason = runs(dev, app)["app"]["reason"]
    provokes("new: it holds a path of …, for which alone it is kept", reason)
    outcome, said = built(dev, app)
    assert outcome == "hit-local" and said.startswith(str(app))


def test_old_files_in_out_dir_stay_as_with_cargo(dev: Developer, tmp_path: Path) -> None:
    script = """fn main() {
        println!("cargo::rerun-if-changed=note");
        let path = format!("{}/old", std::env::var("OUT_DIR").unwrap());
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, format!("{old}+")).unwrap();
        println!("cargo::rustc-env=OLD={old}");
    }"""
    checkout = package(
        tmp_path / "w", "app", script, main='fn main() { println!("{}", env!("OLD")); }'
    )
    for wanted in ("", "+", "++"):
        (checkout / "note").write_text(f"for {wanted}")
        dev.build(checkout)
        assert dev.run(checkout / "target/debug/app", cwd=checkout).stdout.strip() == wanted
        run = runs(dev, checkout)["app"]
        assert run["outcome"] == "local"
        if wanted:
            provokes("OUT_DIR holds files from a run before", run["reason"])


def test_plain_cargo_goes_on(dev: Developer, tmp_path: Path) -> None:
    """It finds all fresh; it runs scripts again without a daemon, and without the home."""
    checkout = curious(tmp_path / "w")
    dev.build(checkout)
    dev.run("cargo", "distbuild", "stop", cwd=checkout)
    done = dev.run("cargo", "build", cwd=checkout)
    assert "Compiling" not in done.stderr
    for word in ("two", "three"):
        done = dev.run("cargo", "build", cwd=checkout, DECLARED=word)
        assert "Compiling" in done.stderr
        said = dev.run(checkout / "target/debug/app", cwd=checkout).stdout.strip()
        assert said == AT_FIRST.replace("|||", f"|{word}||")
        shutil.rmtree(dev.home, ignore_errors=True)


def test_the_wrapper_by_hand(dev: Developer, tmp_path: Path) -> None:
    checkout = curious(tmp_path / "w")
    for outcome in ("local", "hit-local"):
        dev.run("cargo", "clean", cwd=checkout)
        dev.run("cargo", "build", cwd=checkout, RUSTC_WRAPPER="cargo-distbuild-wrapper")
        assert runs(dev, checkout)["app"]["outcome"] == outcome
        dev.run("cargo", "distbuild", "stop", cwd=checkout)


def test_a_probe_by_the_wrapper_by_hand(dev: Developer, tmp_path: Path) -> None:
    """As of proc-macro2 and many others: it is the same run with either wrapper."""
    script = """fn main() {
        let [wrapper, rustc] = ["RUSTC_WRAPPER", "RUSTC"].map(|name| std::env::var(name).unwrap());
        let mut probe = std::process::Command::new(wrapper);
        let done = probe.args([&rustc, "--version"]).output().unwrap();
        println!("cargo:rustc-env=SAID={}", String::from_utf8(done.stdout).unwrap().trim());
        println!("cargo:rerun-if-changed=build.rs");
    }"""
    main = 'fn main() { println!("{}", env!("SAID")); }'
    checkout = package(tmp_path / "w", "app", script, "", main)
    by_hand = ["cargo", "build", "--config", 'build.rustc-wrapper="cargo-distbuild-wrapper"']
    by_command = ["cargo", "distbuild", "build"]
    for command, outcome in (
        (by_hand, "local"),
        (by_hand, "hit-local"),
        (by_command, "hit-local"),
    ):
        dev.run("cargo", "clean", cwd=checkout)
        dev.run(*command, cwd=checkout)
        assert runs(dev, checkout)["app"]["outcome"] == outcome
        assert "rustc 1." in dev.run(checkout / "target/debug/app", cwd=checkout).stdout
        dev.run("cargo", "distbuild", "stop", cwd=checkout)


def test_a_damaged_result_is_not_used(dev: Developer, tmp_path: Path) -> None:
    checkout = curious(tmp_path / "w")
    assert built(dev, checkout) == ("local", AT_FIRST)
    for path in (dev.home / "cache").rglob("*"):
        if path.is_file() and path.stat().st_size > 50 and "results" not in path.parts:
            path.chmod(0o644)
            with open(path, "r+b") as file:
                file.write(b"damaged")
    assert built(dev, checkout) == ("local", AT_FIRST)


def test_a_script_that_has_cargo_build(dev: Developer, tmp_path: Path) -> None:
    """What the daemon compiles for it is read by nobody who is watched."""
    script = """fn main() {
        let out = std::env::var("OUT_DIR").unwrap();
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let done = std::process::Command::new(std::env::var("CARGO").unwrap())
            .args(["build", "--offline", "--target-dir", &format!("{out}/inner")])
            .current_dir(format!("{here}/inner")).status().unwrap();
        assert!(done.success());
        let said = std::process::Command::new(format!("{out}/inner/debug/inner")).output().unwrap();
        println!("cargo::rustc-env=SAID={}", String::from_utf8(said.stdout).unwrap().trim());
    }"""
    main = 'fn main() { println!("{}", env!("SAID")); }'
    checkout = package(tmp_path / "w", "app", script, main=main)
    inner = package(checkout / "inner", "inner", "fn main() {}", "[workspace]\n")
    for word in ("one", "two", "one"):
        (inner / "src" / "main.rs").write_text(f'fn main() {{ println!("{word}"); }}')
        assert built(dev, checkout) == ("local", word)
        reason = runs(dev, checkout)["app"]["reason"]
        provokes("it has cargo compile other packages", reason)


def test_cleaning_at_once_keeps_nothing_in_part(dev: Developer, tmp_path: Path) -> None:
    """Results are kept after the build, from a directory that may be gone by then."""
    checkout = curious(tmp_path / "w")
    dev.build(checkout)
    shutil.rmtree(checkout / "target")
    dev.run("cargo", "distbuild", "stop", cwd=checkout)
    _, said = built(dev, checkout)
    assert said == AT_FIRST
    dev.run("cargo", "clean", "-p", "app", cwd=checkout)
    dev.build(checkout)
    assert runs(dev, checkout)["app"]["outcome"] == "hit-local"


def test_two_builds_at_once(dev: Developer, tmp_path: Path) -> None:
    checkout = curious(tmp_path / "w")
    command = [str(BIN / "cargo-distbuild"), "build"]
    both = [
        subprocess.Popen(command, cwd=checkout, env=dev.environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert dev.run(checkout / "target/debug/app", cwd=checkout).stdout.strip() == AT_FIRST
