"""Mutations of manifests, profiles, flags, environment and places."""

from __future__ import annotations

import platform

from tests.mutations.mutation import Mutation, command, edit, steps, variables

BASE_TOML = "ws/base/Cargo.toml"
WORKSPACE_TOML = "ws/Cargo.toml"
CONFIG = "ws/.cargo/config.toml"
BASE = "ws/base/src/lib.rs"
HOST = f"{platform.machine()}-unknown-linux-gnu"


def profile(name: str, *lines: str, table: str = "profile.dev") -> Mutation:
    """Settings of a profile."""
    text = "\n".join(["", f"[{table}]", *lines, ""])
    return steps(name, lambda s: s.append(WORKSPACE_TOML, text))


MANIFESTS: tuple[Mutation, ...] = (
    edit("the workspace's version", WORKSPACE_TOML, "1.2.3", "1.3.3"),
    edit("a description", BASE_TOML, "the base", "the ground"),
    edit("authors", BASE_TOML, "Somebody <", "Another <"),
    edit("a licence", BASE_TOML, '"MIT"', '"Apache-2.0"'),
    edit("a homepage", BASE_TOML, "license =", 'homepage = "https://example.org"\nlicense ='),
    edit("an edition", BASE_TOML, "edition.workspace = true", 'edition = "2018"'),
    edit("default features", BASE_TOML, 'default = ["usual"]', 'default = ["usual", "loud"]'),
    command("a feature", "--features", "app/extra"),
    command("no default features", "--no-default-features"),
    steps(
        "lints that forbid",
        lambda s: s.replace(BASE, "mod linked;", "mod linked;\nfn unused() {}"),
        lambda s: s.append(BASE_TOML, '\n[lints.rust]\ndead_code = "deny"\n'),
    ),
    steps(
        "lints that allow",
        lambda s: s.replace(BASE, "mod linked;", "mod linked;\nfn unused() {}"),
        lambda s: s.append(BASE_TOML, '\n[lints.rust]\ndead_code = "allow"\n'),
    ),
    steps(
        "a dependency under another name",
        lambda s: s.replace("ws/app/Cargo.toml", "renamed = {", "known = {"),
        lambda s: s.replace("ws/app/src/main.rs", "renamed::", "known::"),
    ),
    edit("crate types", "ws/capi/Cargo.toml", '"cdylib", "staticlib"', '"cdylib", "lib"'),
    edit(
        "a dylib", "ws/capi/Cargo.toml", '"cdylib", "staticlib"', '"cdylib", "staticlib", "dylib"'
    ),
    edit(
        "a binary's name",
        "ws/app/Cargo.toml",
        "[[bench]]",
        '[[bin]]\nname = "second"\npath = "src/main.rs"\ntest = false\n\n[[bench]]',
    ),
)

PROFILES: tuple[Mutation, ...] = (
    command("release", "--release"),
    command("benches", "--benches"),
    profile("opt-level", "opt-level = 2"),
    profile("opt-level of one package", "opt-level = 3", table="profile.dev.package.base"),
    profile("opt-level of build scripts", "opt-level = 1", table="profile.dev.build-override"),
    profile("no debuginfo", "debug = 0"),
    profile("line tables", 'debug = "line-tables-only"'),
    profile("stripped", 'strip = "symbols"'),
    profile("stripped of debuginfo", 'strip = "debuginfo"'),
    profile("packed debuginfo", 'split-debuginfo = "packed"'),
    profile("unpacked debuginfo", 'split-debuginfo = "unpacked"'),
    profile("overflow wraps", "overflow-checks = false"),
    profile("no debug assertions", "debug-assertions = false"),
    profile("panic = abort", 'panic = "abort"'),
    profile("one codegen unit", "codegen-units = 1"),
    profile("thin LTO", 'lto = "thin"', "opt-level = 1"),
    profile("fat LTO", "lto = true", "opt-level = 1"),
    profile("rpath", "rpath = true"),
)

FLAGS: tuple[Mutation, ...] = (
    variables("a cfg by RUSTFLAGS", RUSTFLAGS="--cfg from_flags"),
    variables("a cfg by CARGO_ENCODED_RUSTFLAGS", CARGO_ENCODED_RUSTFLAGS="--cfg\x1ffrom_flags"),
    variables("debug assertions by RUSTFLAGS", RUSTFLAGS="-Cdebug-assertions=off"),
    variables("this processor", RUSTFLAGS="-C target-cpu=native"),
    variables("symbol mangling", RUSTFLAGS="-C symbol-mangling-version=v0"),
    variables("a remapped path", RUSTFLAGS="--remap-path-prefix={ws}=/somewhere"),
    variables("another remapped path", RUSTFLAGS="--remap-path-prefix={ws}=/elsewhere"),
    variables("coverage", RUSTFLAGS="-C instrument-coverage", LLVM_PROFILE_FILE="/dev/null"),
    variables("CARGO_PROFILE_DEV_OPT_LEVEL", CARGO_PROFILE_DEV_OPT_LEVEL="1"),
    variables("incremental", CARGO_INCREMENTAL="1"),
    edit("a configured cfg", CONFIG, '"from_config"', '"from_flags"'),
    steps("no configuration", lambda s: s.remove(CONFIG)),
    command("a target", "--target", HOST),
    Mutation(
        name="a static C library",
        arguments=("--target", HOST),
        environment={"RUSTFLAGS": "-C target-feature=+crt-static"},
    ),
    steps(
        "an unstable feature",
        lambda s: s.replace(BASE, "#![allow", "#![feature(cfg_overflow_checks)]\n#![allow"),
    ),
    steps(
        "an unstable feature with RUSTC_BOOTSTRAP",
        lambda s: s.replace(BASE, "#![allow", "#![feature(cfg_overflow_checks)]\n#![allow"),
        RUSTC_BOOTSTRAP="1",
    ),
    steps(
        "a script in rustc's place",
        lambda s: s.write("ws/rustc.sh", '#!/bin/sh\nexec rustc "$@" --cfg from_flags\n'),
        lambda s: (s.root / "ws/rustc.sh").chmod(0o755),
        RUSTC="{ws}/rustc.sh",
    ),
)

ENVIRONMENT: tuple[Mutation, ...] = (
    variables("a variable of option_env!", PLAIN_ENV="one"),
    variables("a variable of option_env!, again", PLAIN_ENV="two"),
    variables("an empty variable of option_env!", PLAIN_ENV=""),
    variables("a path in a variable of option_env!", PLAIN_ENV="{ws}/base"),
    variables("a variable that cargo gives build scripts", PROFILE="mine"),
    variables("a configured variable, set before", CONFIG_ENV="from the shell"),
    edit("a configured variable", CONFIG, "from the config", "by the config"),
    edit("a configured path", CONFIG, '"assets"', '"native"'),
    variables("variables that nobody reads", SOURCE_DATE_EPOCH="1", LANG="de_DE.UTF-8"),
)

PLACES: tuple[Mutation, ...] = (
    Mutation(name="another checkout", checkout="there"),
    Mutation(name="a checkout with odd names", checkout="an odd größe/place"),
    Mutation(name="a checkout deeper down", checkout="d" * 60 + "/and/deeper"),
    Mutation(name="another developer", checkout="bobs", who="bob"),
    Mutation(
        name="another developer's variable",
        checkout="bobs",
        who="bob",
        environment={"PLAIN_ENV": "bob"},
    ),
    Mutation(
        name="another developer's edit",
        checkout="bobs",
        who="bob",
        apply=lambda s: s.replace("ws/leaf/src/lib.rs", "= 100;", "= 555;"),
    ),
    Mutation(
        name="another checkout with another note",
        checkout="there",
        apply=lambda s: s.write("ws/user/data/notes.txt", "a note from there\n"),
    ),
    Mutation(
        name="another developer's release", checkout="bobs", who="bob", arguments=("--release",)
    ),
)

SETTINGS = MANIFESTS + PROFILES + FLAGS + ENVIRONMENT + PLACES
