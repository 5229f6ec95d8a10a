"""Macros that read files are watched, and what they made is kept where they read inputs alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from developers import Developer, developer
from running import running_server

from tests.wrapper.reason_texts import fits, provokes
from wrapper.inputs.toolchain import machine

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

HEAD = """
use proc_macro::TokenStream;
use std::path::PathBuf;
fn package() -> PathBuf { std::env::var("CARGO_MANIFEST_DIR").unwrap().into() }
fn word(input: &TokenStream) -> String { input.to_string().trim_matches('"').to_string() }
fn literal(text: String) -> TokenStream { format!("{:?}", text.trim()).parse().unwrap() }
"""
CONTENT = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    literal(std::fs::read_to_string(package().join(word(&input))).unwrap_or("nothing".into()))
}
"""
LISTING = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let entries = std::fs::read_dir(package().join(word(&input))).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    literal(names.join(" "))
}
"""
EXISTS = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    literal(package().join(word(&input)).exists().to_string())
}
"""
VARIABLE = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let name = format!("MYOWN_{}", word(&input).to_uppercase());
    literal(std::env::var(name).unwrap_or("unset".into()))
}
"""
NAMED_VARIABLE = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    literal(std::env::var(word(&input)).unwrap_or("unset".into()))
}
"""
BACKWARDS = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let name: String = word(&input).chars().rev().collect();
    literal(std::env::var(name).unwrap_or("unset".into()))
}
"""
BY_C = """
extern "C" { fn getenv(name: *const std::ffi::c_char) -> *const std::ffi::c_char; }
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let name = std::ffi::CString::new(word(&input)).unwrap();
    let value = unsafe { getenv(name.as_ptr()) };
    if value.is_null() { return literal("unset".into()); }
    literal(unsafe { std::ffi::CStr::from_ptr(value) }.to_str().unwrap().into())
}
"""
HIDDEN = """
macro_rules! quote { ($($code:tt)*) => { $($code)* } }
quote! { fn variable(name: &str) -> Option<String> { std::env::var(name).ok() } }
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    literal(variable(&word(&input)).unwrap_or("unset".into()))
}
"""
COMMAND = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let done = std::process::Command::new("cat").arg(word(&input)).output().unwrap();
    literal(String::from_utf8(done.stdout).unwrap())
}
"""
WATCHED = """
#[proc_macro]
pub fn say(_: TokenStream) -> TokenStream {
    let _ = std::net::UdpSocket::bind("127.0.0.1:0");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(!status.contains("NoNewPrivs:\t1"));
    literal("fine".into())
}
"""
AGE = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let time = std::fs::metadata(package().join(word(&input))).unwrap().modified().unwrap();
    literal(time.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().to_string())
}
"""
LAST_READ = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let _ = std::fs::metadata(package().join(word(&input))).unwrap().accessed().unwrap();
    literal("fine".into())
}
"""
ASKS = """
use std::{collections::HashMap, ffi::c_void, time::{Instant, SystemTime}};
extern "C" {
    fn getrandom(to: *mut c_void, size: usize, flags: u32) -> isize;
    fn syscall(number: i64, ...) -> i64;
    fn time(to: *mut i64) -> i64;
    fn gethostname(to: *mut c_void, size: usize) -> i32;
}
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let mut room = [0u8; 64];
    let to = room.as_mut_ptr().cast();
    match word(&input).as_str() {
        "now" => { let _ = SystemTime::now(); }
        "time" => { unsafe { time(std::ptr::null_mut()); } }
        "random" => { unsafe { getrandom(to, 8, 0); } }
        "random by its number" => { unsafe { syscall(318, to, 8u64, 0u64); } }
        "host" => { unsafe { gethostname(to, 64); } }
        "process" => { std::process::id(); }
        _ => { HashMap::from([(Instant::now(), 1)]); }
    }
    literal(word(&input))
}
"""
MAIN = 'fn main() {{ println!("{{}}", macros::say!("{word}")); }}\n'


def workspace(directory: Path, macro: str, word: str) -> Path:
    """A program `app` that says what the macro makes of a word; `app/text/one` holds `first`."""
    for name, source, more in (
        ("macros/src/lib.rs", HEAD + macro, "[lib]\nproc-macro = true\n"),
        ("app/src/main.rs", MAIN.format(word=word), '[dependencies]\nmacros.path = "../macros"\n'),
    ):
        path = directory / name
        path.parent.mkdir(parents=True)
        path.write_text(source)
        package = path.parent.parent
        (package / "Cargo.toml").write_text(
            f'[package]\nname = "{package.name}"\nversion = "0.1.0"\nedition = "2021"\n{more}'
        )
    (directory / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["app", "macros"]\nresolver = "2"\n'
    )
    (directory / "app" / "text").mkdir()
    (directory / "app" / "text" / "one").write_text("first")
    return directory


def built(dev: Developer, checkout: Path) -> tuple[str, str]:
    """Where the program came from in a fresh build, and what it says, as plain cargo has it."""
    dev.run("cargo", "clean", cwd=checkout)
    (unit,) = (unit for unit in dev.build(checkout) if unit["crate"] == "app")
    dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept
    said = dev.run(checkout / "target/debug/app", cwd=checkout).stdout.strip()
    shutil.rmtree(dev.directory / "plain", ignore_errors=True)
    dev.run("cargo", "build", "--target-dir", dev.directory / "plain", cwd=checkout)
    assert dev.run(dev.directory / "plain/debug/app", cwd=checkout).stdout.strip() == said
    shutil.rmtree(dev.directory / "plain")
    return unit["outcome"], said


def reason_of(dev: Developer, checkout: Path) -> str:
    """Why the program was compiled here in the last build."""
    said = dev.run("cargo", "distbuild", "stats", "--json", cwd=checkout).stdout
    (reason,) = (unit["reason"] for unit in json.loads(said)["units"] if unit["crate"] == "app")
    return str(reason)


def test_a_file_of_the_package(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", CONTENT, "text/one")
    file = checkout / "app" / "text" / "one"
    assert built(dev, checkout) == ("local", "first")
    assert built(dev, checkout) == ("hit-local", "first")
    file.write_text("second")
    assert built(dev, checkout) == ("local", "second")
    file.unlink()
    assert built(dev, checkout) == ("local", "nothing")
    file.write_text("first")
    assert built(dev, checkout) == ("hit-local", "first")
    elsewhere = workspace(tmp_path / "elsewhere", CONTENT, "text/one")
    assert built(dev, elsewhere) == ("hit-local", "first")


def test_a_directory_of_the_package(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", LISTING, "text")
    assert built(dev, checkout) == ("local", "one")
    (checkout / "app" / "text" / "two").touch()
    assert built(dev, checkout) == ("local", "one two")
    assert built(dev, checkout) == ("hit-local", "one two")


@pytest.mark.parametrize("macro", [CONTENT, EXISTS], ids=["content", "exists"])
def test_a_file_beside_the_package(dev: Developer, tmp_path: Path, macro: str) -> None:
    """It is learned, there or not, and noted for others."""
    gone, there, other = (
        ("nothing", "there", "other") if macro is CONTENT else ("false", "true", "true")
    )
    checkout = workspace(tmp_path / "w", macro, "../beside/file")
    (checkout / "beside").mkdir()
    file = checkout / "beside" / "file"
    seen = [built(dev, checkout), built(dev, checkout)]
    file.write_text("there")
    seen += [built(dev, checkout), built(dev, checkout)]
    file.write_text("other")
    seen += [built(dev, checkout)]
    file.unlink()
    seen += [built(dev, checkout)]
    elsewhere = workspace(tmp_path / "elsewhere", macro, "../beside/file")
    (elsewhere / "beside").mkdir()
    (elsewhere / "beside" / "file").write_text("other")
    seen += [built(dev, elsewhere)]
    assert seen == [
        ("local", gone), ("hit-local", gone), ("local", there), ("hit-local", there),
        ("local", other), ("hit-local", gone), ("hit-local", other),
    ]  # fmt: skip


LOCATE = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let done = std::process::Command::new(std::env::var("CARGO").unwrap())
        .args(["locate-project", "--workspace", "--message-format=plain"])
        .current_dir(package()).output().unwrap();
    let manifest = String::from_utf8(done.stdout).unwrap();
    let text = std::fs::read_to_string(manifest.trim()).unwrap();
    let found = text.lines().find(|line| line.contains(&word(&input)));
    literal(found.unwrap_or("nothing").into())
}
"""


def test_a_macro_that_asks_cargo_for_the_workspace(dev: Developer, tmp_path: Path) -> None:
    """As `proc-macro-crate` does, which finds out what a dependency is called."""
    checkout = workspace(tmp_path / "w", LOCATE, "# word")
    seen = [built(dev, checkout) for _ in range(2)]
    assert seen == [("local", "nothing"), ("hit-local", "nothing")], reason_of(dev, checkout)
    with (checkout / "Cargo.toml").open("a") as file:
        file.write("# word\n")
    assert [built(dev, checkout) for _ in range(2)] == [
        ("local", "# word"),
        ("hit-local", "# word"),
    ]
    elsewhere = workspace(tmp_path / "elsewhere", LOCATE, "# word")
    assert built(dev, elsewhere) == ("hit-local", "nothing")


@pytest.mark.parametrize("word", ["../../beside", "text/out"])
@pytest.mark.parametrize("macro", [CONTENT, EXISTS], ids=["content", "exists"])
def test_what_no_key_has(dev: Developer, tmp_path: Path, macro: str, word: str) -> None:
    """Beside the workspace, and through a link that leads out."""
    (tmp_path / "beside").mkdir()
    checkout = workspace(tmp_path / "w", macro, f"{word}/file")
    (checkout / "app" / "text" / "out").symlink_to("../../../beside")
    seen = []
    for is_there in (False, True, False):
        if is_there:
            (tmp_path / "beside" / "file").write_text("there")
        else:
            (tmp_path / "beside" / "file").unlink(missing_ok=True)
        seen.append(built(dev, checkout))
    reason = reason_of(dev, checkout)
    if word == "text/out":
        assert fits("reads …, which has no shared name", reason)
    else:
        provokes("the compile reads …, which no key names", reason)
    gone, there = ("nothing", "there") if macro is CONTENT else ("false", "true")
    assert seen == [("local", gone), ("local", there), ("local", gone)]


def test_a_listing_that_has_more_than_the_key(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", LISTING, ".")
    seen = [built(dev, checkout)]
    (checkout / "app" / ".git").mkdir()
    seen += [built(dev, checkout), built(dev, checkout)]
    assert [outcome for outcome, _ in seen] == ["local", "local", "local"]
    assert seen[0][1] != seen[1][1] == seen[2][1]


def test_a_directory_in_which_something_is_no_input(dev: Developer, tmp_path: Path) -> None:
    """Its name is in the key."""
    checkout = workspace(tmp_path / "w", LISTING, "text")
    assert built(dev, checkout) == ("local", "one")
    (checkout / "app" / "text" / "node_modules").mkdir()
    for outcome in ("local", "hit-local"):
        assert built(dev, checkout) == (outcome, "node_modules one")
    (checkout / "app" / "text" / "node_modules").rmdir()
    assert built(dev, checkout) == ("hit-local", "one")


@pytest.mark.parametrize("name", [".git", "node_modules/x"])
def test_what_is_no_input_may_come(dev: Developer, tmp_path: Path, name: str) -> None:
    checkout = workspace(tmp_path / "w", EXISTS, name)
    assert built(dev, checkout) == ("local", "false")
    (checkout / "app" / name).mkdir(parents=True)
    assert built(dev, checkout) == ("local", "true")


@pytest.mark.parametrize(
    ("macro", "word", "name"),
    [
        pytest.param(VARIABLE, "word", "MYOWN_WORD", id="put together"),
        pytest.param(NAMED_VARIABLE, "ENDPOINT", "ENDPOINT", id="in the source"),
        pytest.param(BACKWARDS, "tniopdne", "endpoint", id="backwards"),
        pytest.param(BY_C, "NUMBER", "NUMBER", id="by C"),
        pytest.param(HIDDEN, "ENDPOINT", "ENDPOINT", id="hidden from who reads the sources"),
        pytest.param(BACKWARDS, "MVLLbil", "libLLVM", id="in a place called as a compiler is"),
    ],
)
def test_a_variable_that_no_literal_of_the_macro_names(
    dev: Developer, tmp_path: Path, macro: str, word: str, name: str
) -> None:
    checkout = workspace(tmp_path / name / "w", macro, word)
    seen = []
    for value in ("", "a", "b", "a", ""):
        dev.extra = {name: value} if value else {}
        outcome, said = built(dev, checkout)
        assert said == (value or "unset")
        seen.append(outcome)
    assert seen == ["local", "local", "local", "hit-local", "hit-local"]


@pytest.mark.parametrize(
    "source", ["int nobody_has_this(void); int x(void) { return nobody_has_this(); }", ""]
)
def test_a_library_that_cannot_be_loaded(dev: Developer, tmp_path: Path, source: str) -> None:
    """Programs may not start with it, where they have another C library: the build goes on."""
    checkout = workspace(tmp_path / "w", CONTENT, "text/one")
    assert built(dev, checkout)[0] == "local"
    library = dev.home / "bin" / "asked-variables.so"
    library.unlink()
    if source:
        command = ["cc", "-shared", "-fPIC", "-Wl,-z,now", "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=source, text=True, check=True)
    else:
        library.write_text("no library")
    (checkout / "app" / "text" / "one").write_text("second")
    assert built(dev, checkout) == ("local", "second")
    said = reason_of(dev, checkout)
    assert said in (
        "its watcher is not told of variables",
        "it does not compile when it is watched",
    )


def test_a_program_that_a_macro_runs(dev: Developer, tmp_path: Path) -> None:
    """It reads by itself, with libraries and settings of its own; nobody says which matter."""
    checkout = workspace(tmp_path / "w", COMMAND, str(tmp_path / "file"))
    for text in ("one", "two", "one"):
        (tmp_path / "file").write_text(text)
        assert built(dev, checkout) == ("local", text)
    provokes("the compile runs …, and nobody knows what that reads", reason_of(dev, checkout))


def test_what_fails_for_the_watching(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", WATCHED, "x")
    assert built(dev, checkout) == ("local", "fine")
    provokes("it does not compile when it is watched", reason_of(dev, checkout))


@pytest.mark.parametrize("name", ["text/one", "text", "../beside", "../Cargo.toml"])
def test_the_age_of_a_file(dev: Developer, tmp_path: Path, name: str) -> None:
    """No watcher sees that it is asked for: the key says how old all are that may be looked at."""
    checkout = workspace(tmp_path / "w", AGE, name)
    (checkout / "beside").touch()
    file = checkout / "app" / name
    before = file.stat().st_mtime_ns
    assert built(dev, checkout) == ("local", str(before))
    assert built(dev, checkout) == ("hit-local", str(before))
    os.utime(file, ns=(before, before + 1))
    assert built(dev, checkout) == ("local", str(before + 1))
    said = dev.run("cargo", "distbuild", "why-miss", "app", cwd=checkout).stdout
    assert "beside the inputs, ages: " in said
    os.utime(file, ns=(before, before))
    # a time that is put back is the same; but nobody knows what else was
    assert built(dev, checkout) == ("local", str(before))
    assert built(dev, checkout) == ("hit-local", str(before))
    elsewhere = workspace(tmp_path / "elsewhere", AGE, name)
    (elsewhere / "beside").touch()
    assert built(dev, elsewhere)[0] == "local"


def test_when_a_file_was_read(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", LAST_READ, "text/one")
    assert built(dev, checkout)[0] == "local"
    assert built(dev, checkout)[0] == "local"
    said = dev.run("cargo", "distbuild", "stats", cwd=checkout).stdout
    assert "a macro may read what no key names: macros says .accessed()" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("now", "the time"),
        ("time", "the time"),
        ("random", "random numbers"),
        pytest.param(
            "random by its number", "random numbers",
            marks=pytest.mark.skipif(machine() != "x86_64", reason="the number is x86-64's"),
        ),
        ("host", "the machine's name"),
        ("process", "the number of its process"),
    ],
)  # fmt: skip
def test_what_is_another_each_time(dev: Developer, tmp_path: Path, word: str, said: str) -> None:
    """Not what a macro might ask for counts, but what it asks for."""
    checkout = workspace(tmp_path / "w", ASKS, "nothing")
    assert [built(dev, checkout) for _ in range(2)] == [
        ("local", "nothing"),
        ("hit-local", "nothing"),
    ]
    checkout = workspace(tmp_path / "x", ASKS, word)
    assert [built(dev, checkout) for _ in range(2)] == [("local", word)] * 2
    assert reason_of(dev, checkout) == f"a macro asks for {said}"
    provokes("a macro asks for …", reason_of(dev, checkout))


def test_the_compilers_own_words_come_once(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", CONTENT, "text/one")
    main = checkout / "app" / "src" / "main.rs"
    main.write_text(main.read_text() + "fn unused() {}\n")
    said = dev.run("cargo", "distbuild", "build", cwd=checkout).stderr
    assert said.count("function `unused` is never used") == 1
    main.write_text("fn main() { wrong }\n")
    done = dev.run("cargo", "distbuild", "build", cwd=checkout, check=False)
    assert done.stderr.count("cannot find value `wrong`") == 1


def test_others_have_it_from_a_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "server", "--workers", "1") as server:
        with developer(tmp_path / "alice", server.url) as alice:
            checkout = workspace(tmp_path / "alice" / "w", CONTENT, "text/one")
            assert built(alice, checkout) == ("local", "first"), "not sent to a worker"
        with developer(tmp_path / "bob", server.url) as bob:
            checkout = workspace(tmp_path / "bob" / "other" / "w", CONTENT, "text/one")
            assert built(bob, checkout) == ("hit-remote", "first")
