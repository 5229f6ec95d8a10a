"""Mutations of what macros, build scripts and linkers read."""

from __future__ import annotations

import os
import platform

from running import BIN

from tests.mutations.mutation import Mutation, edit, quiet_edit, steps, variables
from tests.mutations.scene import LONG_AGO, Scene, native_library

NOTES = "ws/user/data/notes.txt"
TABLE = "ws/gen/data/table.txt"
CONFIG = "ws/.cargo/config.toml"
PLAIN_A = "ws/native/libplain.a"
HOST = f"{platform.machine()}-unknown-linux-gnu"

MACROS: tuple[Mutation, ...] = (
    edit("a file that a macro reads", NOTES, "a note", "another note"),
    quiet_edit("a file that a macro reads, same size and time", NOTES, "note", "nope"),
    quiet_edit("a file that a macro reads, older", NOTES, "note", "node", LONG_AGO),
    edit("a file outside that a macro reads", "ws/assets/outside.txt", "a file", "one file"),
    steps("a file that a macro reads is gone", lambda s: s.remove(NOTES)),
    steps(
        "a file that a macro reads leads out", lambda s: s.link(NOTES, "../../assets/schema.txt")
    ),
    steps("a file that a macro lists", lambda s: s.write("ws/user/data/more.txt", "")),
    steps("a hidden file that a macro lists", lambda s: s.write("ws/user/data/.hidden", "")),
    steps("node_modules that a macro lists", lambda s: s.write("ws/user/data/node_modules/x", "")),
    steps(
        "a cache directory that a macro lists",
        lambda s: s.write("ws/user/data/cache/CACHEDIR.TAG", ""),
    ),
    steps("an empty directory that a macro lists", lambda s: (s.root / "ws/user/data/e").mkdir()),
    steps("a broken link that a macro lists", lambda s: s.link("ws/user/data/broken", "nowhere")),
    steps(
        "a link to a directory that a macro lists", lambda s: s.link("ws/user/data/d", "../../gen")
    ),
    edit("a macro's own code", "ws/mac/src/lib.rs", "the macro's", "this macro's"),
    edit("which file a macro reads", "ws/user/src/lib.rs", "data/notes.txt", "Cargo.toml"),
    variables("an undeclared variable of a macro", MAC_ENV="one"),
    variables("an undeclared variable of a macro, again", MAC_ENV="two"),
    variables("a declared variable of a macro", MAC_TRACKED="one"),
    variables("a declared variable of a macro, again", MAC_TRACKED="two"),
)


def _included_by_odd_name(name: str, table: str) -> Mutation:
    """OUT_DIR's file has a name that looks like a compiler probe's leavings."""

    def apply(scene: Scene) -> None:
        scene.replace("ws/gen/build.rs", '"more/words.txt"), table)', f'"{name}"), table)')
        scene.replace("ws/gen/build.rs", '"more")', '"probe")')
        scene.replace("ws/gen/build.rs", "table.trim(),", '"",')
        scene.replace("ws/gen/src/lib.rs", "more/words.txt", name)
        scene.write(TABLE, table)

    return Mutation(name=f"OUT_DIR's {name} says {table}", apply=apply)


def _linker(number: int) -> Mutation:
    """A linker whose path stays and whose behaviour does not."""

    def apply(scene: Scene) -> None:
        scene.write("ws/linker", f'#!/bin/sh\nexec cc "$@" -Wl,--build-id=0x1234{number}0\n')
        (scene.root / "ws/linker").chmod(0o755)
        scene.append(CONFIG, f'\n[target.{HOST}]\nlinker = "./linker"\n')

    return Mutation(name=f"a linker of our own, {number}", apply=apply)


SCRIPTS: tuple[Mutation, ...] = (
    edit("a file that a build script reads", TABLE, "one", "zero one"),
    quiet_edit("a file that a build script reads, same size and time", TABLE, "two", "TWO"),
    edit("a file outside that a build script reads", "ws/assets/schema.txt", "11", "12"),
    edit(
        "a build script",
        "ws/gen/build.rs",
        "pub const TABLE: &str = {:?}",
        "pub const TABLE: &str = concat!({:?}, 1)",
    ),
    edit("what a build script exports", "ws/gen/build.rs", "SEEN={level}", "SEEN=<{level}>"),
    variables("a variable of a build script", GEN_LEVEL="low"),
    variables("a variable of a build script that sets a cfg", GEN_LEVEL="high"),
    _included_by_odd_name("more.d", "first table"),
    _included_by_odd_name("more.d", "second table"),
    _included_by_odd_name("probe/words.txt", "first table"),
    _included_by_odd_name("probe/words.txt", "second table"),
    edit("C source", "ws/csys/c/csys.c", "return CSYS_VALUE", "return CSYS_VALUE + 1"),
    edit("a C header", "ws/csys/c/csys.h", "CSYS_VALUE 42", "CSYS_VALUE 43"),
    quiet_edit("a C header of the same size and time", "ws/csys/c/csys.h", "42", "44"),
    variables("flags for C", CSYS_CFLAGS="-DCSYS_VALUE=77"),
    variables("debug information in C", CSYS_CFLAGS="-g"),
    edit("metadata of a links package", "ws/csys/c/level.txt", "3", "4"),
)

QUIET = "ws/gen/quiet"


def _helper(says: str) -> Mutation:
    """A program that a build script asks for by name, at the head of PATH."""

    def apply(scene: Scene) -> None:
        scene.write("ws/bin/gen-helper", f"#!/bin/sh\necho {says}\n")
        (scene.root / "ws/bin/gen-helper").chmod(0o755)

    search = f"{{ws}}/bin:{BIN}:{os.environ['PATH']}"
    return Mutation(name=f"a program says {says}", apply=apply, environment={"PATH": search})


UNDECLARED: tuple[Mutation, ...] = (
    edit("an undeclared file of a build script", f"{QUIET}/a.txt", "a", "other"),
    quiet_edit("an undeclared file, same size and time", f"{QUIET}/a.txt", "a", "c"),
    edit("a file behind a link in OUT_DIR", f"{QUIET}/b.txt", "b", "other"),
    steps("a file that a build script missed", lambda s: s.write(f"{QUIET}/deep/absent.txt", "x")),
    steps("a file that a build script lists", lambda s: s.write(f"{QUIET}/new.txt", "")),
    steps("a file that a build script listed is gone", lambda s: s.remove(f"{QUIET}/b.txt")),
    steps(
        "an undeclared file of a build script leads out",
        lambda s: s.link(f"{QUIET}/a.txt", "../../assets/schema.txt"),
    ),
    variables("an undeclared variable of a build script", GEN_UNDECLARED="one"),
    variables("an undeclared variable of a build script, again", GEN_UNDECLARED="two"),
    _helper("one"),
    _helper("two"),
    steps("git's HEAD", lambda s: s.write("ws/.git/HEAD", "ref: one")),
    steps("git's HEAD, again", lambda s: s.write("ws/.git/HEAD", "ref: two")),
)

LINKING: tuple[Mutation, ...] = (
    edit("an argument for the linker", "ws/app/link.txt", "first", "second"),
    edit("a linker script", "ws/app/extra.ld", "= first", "= second"),
    quiet_edit(
        "a linker script of the same size and time", "ws/app/extra.ld", "scripted", "SCRIPTED"
    ),
    steps("a native library", lambda s: native_library(s.workspace / "native", 6)),
    steps(
        "a native library of the same time",
        lambda s: native_library(s.workspace / "native", 7),
        lambda s: s.set_mtime(PLAIN_A, (s.pristine / PLAIN_A).stat().st_mtime_ns),
    ),
    steps(
        "a native library in a -L directory",
        lambda s: native_library(s.workspace / "elsewhere", 8),
        lambda s: s.remove(PLAIN_A),
        RUSTFLAGS="-Lnative={ws}/elsewhere",
    ),
    steps(
        "another native library in the same -L directory",
        lambda s: native_library(s.workspace / "elsewhere", 9),
        lambda s: s.remove(PLAIN_A),
        RUSTFLAGS="-Lnative={ws}/elsewhere",
    ),
    steps("a native library is gone", lambda s: s.remove(PLAIN_A)),
    variables("a link-arg by RUSTFLAGS", RUSTFLAGS="-C link-arg=-Wl,--build-id=0x12340a"),
    variables("link-args by RUSTFLAGS", RUSTFLAGS="-C link-args=-Wl,--build-id=0x12340b"),
    _linker(1),
    _linker(2),
)

MADE = MACROS + SCRIPTS + UNDECLARED + LINKING
