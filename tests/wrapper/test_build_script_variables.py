"""Which variables a run of a build script depends on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrapper.build_scripts.elf import loaded_parts
from wrapper.build_scripts.environment import cargos_variables, users_variables
from wrapper.build_scripts.named_variables import (
    declared,
    how_variables_are_looked_at,
    named_in_file,
    tokens_of,
)
from wrapper.build_scripts.reach import reach_of


def counted(name: str, *words: str, reach: str = "none", named: tuple[str, ...] = ()) -> bool:
    tokens = tokens_of("\0".join(words).encode())
    return name in users_variables({name: "x"}, tokens=tokens, named=named, reach=reach)


@pytest.mark.parametrize(
    ("name", "words", "reach", "wanted"),
    [
        ("CC", ("CC",), "none", True),
        ("MY_VAR", (), "none", False),
        ("MY_VAR", ("MY_VAR",), "none", True),
        ("_MY_VAR", ("_MY_VAR",), "none", True),
        ("LIBFOO_DIR", ("LIBFOO",), "none", True),
        ("X86_64_LINUX_OPENSSL_DIR", ("OPENSSL_DIR",), "none", True),
        ("MY_VAR", ("xMY_VARyOTHER",), "none", True),
        ("X", (), "none", True),
        ("X", (), "known told", False),
        ("X", (), "any told", True),
        ("lower", (), "none", True),
        ("lower", (), "none told", False),
        ("lower", (), "any told", True),
        ("MY_VAR", ("MY_VAR",), "none told", True),
        ("LD_PRELOAD", (), "none told", True),
        ("ImageVersion", (), "any", False),
        ("MY_VAR", (), "any", True),
        ("MY_VAR", (), "known", False),
        ("CFLAGS", (), "known", True),
        ("GIT_DIR", (), "known", False),
        ("PIP_INDEX_URL", ("SIGPIPE",), "known rustc told", False),
        ("NODE_ENV", ("NODEFAULTLIB",), "known told", False),
        ("WORKSPACE", ("RUSTC_WORKSPACE_WRAPPER",), "none told", False),
        ("FORCE_COLOR", ("CC_FORCE_DISABLE",), "none told", False),
        ("MY_VAR", ("xMY_VARyOTHER",), "none told", True),
        ("MY_VAR", ("OTHERMY_",), "none told", True),
        ("MY_OWN_VAR", ("MY_OWN_",), "none told", True),
        ("MY_OWN_VAR", ("OWN_VAR",), "none told", False),
        ("MY_OWN_VAR", ("OWN_VAR",), "none told stripped", True),
        ("MYAPP_TAG", ("MYAPP",), "none told stripped", True),
        ("X_MYAPP_TAG", (), "none told lists", True),
        ("GNOME_MYAPP", ("GNOME_",), "none told lists", True),
        ("GNOME_MYAPP", (), "none told lists", False),
        ("SUDO_UID", (), "any git", True),
        ("DESKTOP_SESSION", (), "any", False),
        ("KITTY_PID", ("KITTY_PID",), "any", True),
        ("CARGO_INCREMENTAL", (), "known", False),
        ("CARGO_INCREMENTAL", (), "any", False),
        ("CARGO_INCREMENTAL", (), "known cargo", True),
        ("CARGO_INCREMENTAL", ("CARGO_INCREMENTAL",), "none", True),
        ("CARGO_PROFILE_DEV_DEBUG", (), "any rustc", False),
        ("CARGO_PROFILE_DEV_DEBUG", (), "any cargo", True),
        ("CARGO_FOO", (), "known rustc", False),
        ("CARGO_FOO", (), "known cargo", True),
        ("CARGO_FOO", (), "any", True),
        ("RUSTC_BOOTSTRAP", (), "known", False),
        ("RUSTC_BOOTSTRAP", (), "known rustc", True),
        ("LANG", (), "known", False),
        ("GITHUB_RUN_ID", (), "any", False),
        ("GITHUB_SHA", ("GITHUB_SHA",), "any", True),
        ("GITHUB_SHA", ("GITHUB_SHACARGO",), "none", True),
        ("CI_JOB_ID", ("CI_COMMIT_SHA",), "any", False),
        ("CI_JOB_ID", ("CI_",), "any", True),
        ("BUILD_NUMBER", (), "any", False),
        ("BUILD_DIR", (), "any", True),
        ("CI", (), "any", False),
        ("CI", ("CI",), "any", True),
        ("LANG", (), "any", True),
        ("PATH", ("PATH",), "any", False),
        ("HOME", ("HOME",), "any", False),
        ("USER", (), "any", False),
        ("USER", ("USER",), "none", True),
        ("USER", ("HOMEUSERNAME",), "none", True),
        ("SHELL", ("CC_SHELL_ESCAPED_FLAGS",), "any", False),
        ("TERM", ("SIGTERM",), "any", False),
        ("LANG", ("LANG",), "none", True),
        ("LC_ALL", ("LC_ALLCVSLANGCRATE_CC_NO_DEFAULTS",), "known", False),
        ("TZ", ("TZ",), "none", True),
        ("TERM", ("TERM",), "none", True),
        ("RUST_LOG", ("RUST_LOG",), "none", True),
        ("CARGO_TERM_COLOR", (), "known", False),
        ("CARGO_TERM_COLOR", ("CARGO_TERM_COLOR",), "none", True),
        ("GIT_ASKPASS", (), "known", False),
        ("GIT_AUTHOR_NAME", (), "any", False),
        ("GIT_AUTHOR_NAME", ("GIT_AUTHOR_NAME",), "any", True),
        ("VSCODE_GIT_IPC_HANDLE", (), "any", False),
        ("npm_lifecycle_event", (), "known", False),
        ("LD_PRELOAD", (), "none", True),
        ("XDG_CONFIG_HOME", (), "any", True),
        ("XDG_SESSION_ID", (), "any", False),
        ("TZ", (), "known git", True),
        ("LC_ALL", (), "known git", True),
        ("XDG_CONFIG_HOME", (), "known git", True),
        ("XDG_CONFIG_HOME", (), "known", False),
        ("GIT_DIR", (), "known git", True),
        ("GIT_AUTHOR_NAME", (), "known git", False),
        ("GIT_AUTHOR_NAME", ("GIT_AUTHOR_IDENT",), "known git", True),
        ("EMAIL", ("GIT_COMMITTER_IDENT",), "any git", True),
        ("EDITOR", ("GIT_EDITOR",), "known git", True),
        ("EDITOR", (), "known git", False),
        ("MY_VAR", (), "known git", False),
    ],
)
def test_which_variables_count(name: str, words: tuple[str, ...], reach: str, wanted: bool) -> None:
    assert counted(name, *words, reach=reach) == wanted


@given(st.from_regex(r"[A-Z_][A-Z0-9_]{1,20}", fullmatch=True), st.binary(), st.binary())
def test_a_name_in_the_program_is_found(name: str, before: bytes, after: bytes) -> None:
    tokens = tokens_of(before + name.encode() + after)
    assert name in tokens


PROGRAM = """
#include <stdlib.h>
int A_SYMBOL_ALONE(void) { return 0; }
__asm__(".text\\n.ascii \\"QX LONG_IN_CODE\\"");
static char writable[] = "IN_DATA";
int main(void) { return !!getenv("IN_RODATA") + !!getenv("ZQ") + !!getenv(writable); }
"""


def test_names_in_what_is_loaded_of_a_program(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(PROGRAM)
    subprocess.run(["cc", "-g", "-O0", "a.c", "-o", "a"], cwd=tmp_path, check=True)
    program = (tmp_path / "a").read_bytes()
    tokens = tokens_of(program)
    assert all(name in tokens for name in ("IN_RODATA", "IN_DATA", "LONG_IN_CODE", "ZQ"))
    assert b"A_SYMBOL_ALONE" in program and "A_SYMBOL_ALONE" not in tokens
    assert b"QX " in program and "QX" not in tokens


def test_ci_is_not_in_every_program() -> None:
    assert not counted("CI", "CAPACITY", "VCINSTALLDIRVSINSTALLDIR")
    assert counted("CI", "CI")
    assert counted("CI", "CAPACITYCI")
    assert counted("CI", "LIBC_CICARGO")
    assert counted("MAX_CAPACITY", "MAX_CAPACITY")


@given(st.binary(max_size=200))
def test_programs_that_are_cut_off(rest: bytes) -> None:
    code, data = loaded_parts(b"\x7fELF\x02\x01" + rest)
    assert len(code) + len(data) >= 0


def test_what_is_declared_counts_whatever_it_is() -> None:
    said = b"x\ncargo:rerun-if-env-changed=A\ncargo::rerun-if-env-changed= HOME\n"
    assert declared(said) == ["A", "HOME"]
    assert counted("HOME", named=("HOME",))


def test_cargos_variables() -> None:
    found = cargos_variables({"OUT_DIR": "/o", "DEP_Z_ROOT": "1", "CARGO_HOME": "/c", "MINE": ""})
    assert found == {"OUT_DIR": "/o", "DEP_Z_ROOT": "1"}


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.pl", "print $ENV{USER}", True),
        ("a.pl", 'print $ENV{"USER"}', True),
        ("a.cmake", "message($ENV{USER})", True),
        ("a.awk", 'BEGIN { print ENVIRON["USER"] }', True),
        ("a.py", 'e = os.environ\ne.get("USER")', True),
        ("a.py", '"%(USER)s" % os.environ', True),
        ("a.js", "const {USER} = process.env", True),
        ("a.js", "process.env.USER", True),
        ("a.sh", "printenv USER", True),
        ("a.sh", "[[ -v USER ]]", True),
        ("a.mk", "ifdef USER", True),
        ("a.mk", "$(origin USER)", True),
        ("a.jq", "$ENV.USER", True),
        ("a.tcl", "puts $env(USER)", True),
        ("a.pl", "print $ENV{ USER }", True),
        ("a.sh", "echo ${USER}", True),
        ("a.in", "by @USER@", True),
        ("a.c", 'getenv("USER")', True),
        ("a.c", '{"USER", 1}', False),
        ("a.txt", "a USER says", False),
        ("a.sh", "echo $OTHER_USER", False),
    ],
)
def test_what_texts_ask_for_of_a_session(name: str, text: str, wanted: bool) -> None:
    assert named_in_file(name, text.encode()) == ({"USER"} if wanted else set())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$GITHUB_SHA", "GITHUB_SHA"),
        ("env | grep ^GITHUB_", "GITHUB_"),
        ("$CI_$v", "CI_"),
        ("if $CI", "CI"),
        ("CIRCLE", None),
    ],
)
def test_what_texts_ask_for_of_a_build_service(text: str, wanted: str | None) -> None:
    assert named_in_file("a.sh", text.encode()) == ({wanted} if wanted else set())


@pytest.mark.parametrize(
    ("programs", "reach"),
    [
        ([], "none"),
        (["/usr/bin/cc", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1"], "known"),
        (["/usr/bin/aarch64-linux-gnu-gcc-12", "/t/bin/rustc"], "known rustc"),
        (["/t/bin/rustc", "/t/bin/cargo"], "known cargo rustc"),
        (["/t/bin/rustc", "/t/lib/rustlib/x/bin/gcc-ld/ld.lld"], "known rustc"),
        (["/home/ada/bin/cc"], "any"),
        (["/t/bin/cargo", "/home/ada/bin/cc"], "any cargo"),
        (["/usr/bin/cc", "/bin/sh"], "any"),
        (["/usr/bin/cc", "/usr/bin/git"], "known git"),
        (["/usr/bin/git", "/bin/sh"], "any git"),
    ],
)
def test_what_programs_may_look_at(programs: list[str], reach: str) -> None:
    assert reach_of(programs) == reach


@pytest.mark.parametrize(
    ("symbol", "options", "wanted"),
    [
        ("_RNvNtCs8ZKwes1zzDd_3std3env4vars", (), "lists"),
        ("_ZN3std3env4vars17h0123456789abcdefE", (), "lists"),
        ("_RNvNtCs8ZKwes1zzDd_3std3env7vars_os", (), ""),
        ("_ZN3std3env4vars17h0123456789abcdefE", ("-s",), "stripped"),
    ],
)
def test_how_a_program_looks_at_variables(
    tmp_path: Path, symbol: str, options: tuple[str, ...], wanted: str
) -> None:
    source, program = tmp_path / "p.c", tmp_path / "p"
    source.write_text(f"int {symbol}(void) {{ return 0; }} int main(void) {{ return {symbol}(); }}")
    subprocess.run(["cc", *options, "-o", program, source], check=True)
    assert how_variables_are_looked_at(program.read_bytes()) == wanted
