"""Mutations of sources and of files that sources include."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, edit, quiet_edit, steps
from tests.mutations.scene import LONG_AGO

LEAF = "ws/leaf/src/lib.rs"
BASE = "ws/base/src/lib.rs"
INSIDE = "ws/base/data/inside.txt"
OUTSIDE = "ws/assets/outside.txt"
SHADOWED = "ws/base/src/shadowed.rs"

DEPENDENCIES: tuple[Mutation, ...] = (
    edit("a constant of a dependency's dependency", LEAF, "LEAF: u32 = 100", "LEAF: u32 = 101"),
    edit("an inlined function of a dependency", LEAF, "x + 1", "x + 2"),
    edit("a generic function of a dependency", LEAF, '"leaf({', '"LEAF<{'),
    edit("a macro of a dependency", LEAF, "from leaf's", "out of leaf's"),
    edit("a comment in a dependency", LEAF, "//! What", "//! Whatever"),
    edit("an item removed that others use", LEAF, "pub fn inlined", "fn inlined"),
    edit("source of a package beside", "beside/src/lib.rs", "beside.text", "beside.words"),
    edit("a file that a package beside includes", "beside/text.txt", "text", "other text"),
    edit("version of a package beside", "beside/Cargo.toml", "0.3.0", "0.3.1"),
)

LINES: tuple[Mutation, ...] = (
    edit("a line put before all others", BASE, "#![allow", "\n#![allow"),
    edit("spaces before a call", BASE, '={}", here()', '={}",    here()'),
    edit("a line break in a nested module", "ws/base/src/nested/deep.rs", "format!(", "format!(\n"),
    edit("lines of another package", "beside/src/lib.rs", "    vec![", "\n\n    vec!["),
    edit("a panic's text", BASE, "base explodes", "base bursts"),
    edit("a panic's place in another crate", "ws/app/src/main.rs", "fn main", "\n\nfn main"),
    edit("a warning", BASE, "mod linked;", "mod linked;\nfn unused() {}"),
    edit("a syntax error", BASE, "mod linked;", "mod linked"),
    steps(
        "line ends of DOS",
        lambda s: s.write(BASE, (s.root / BASE).read_bytes().replace(b"\n", b"\r\n")),
    ),
    steps(
        "a byte order mark", lambda s: s.write(BASE, b"\xef\xbb\xbf" + (s.root / BASE).read_bytes())
    ),
)

MODULES: tuple[Mutation, ...] = (
    edit("a nested module", "ws/base/src/nested/deep.rs", "deep one", "deep two"),
    edit("a module by #[path]", "ws/base/src/odd place.rs", "an odd", "a very odd"),
    edit("a linked source's target", "ws/base/data/linked_source.rs", "by its", "via its"),
    steps(
        "a linked source that leads elsewhere",
        lambda s: s.write("ws/base/data/other.rs", 'pub const VALUE: &str = "elsewhere";\n'),
        lambda s: s.link("ws/base/src/linked.rs", "../data/other.rs"),
    ),
    steps(
        "a linked source that leads out of the package",
        lambda s: s.write("ws/assets/other.rs", 'pub const VALUE: &str = "outside";\n'),
        lambda s: s.link("ws/base/src/linked.rs", "../../assets/other.rs"),
    ),
    steps(
        "another text behind a link out of the package",
        lambda s: s.write("ws/assets/other.rs", 'pub const VALUE: &str = "OUTSIDE";\n'),
        lambda s: s.link("ws/base/src/linked.rs", "../../assets/other.rs"),
    ),
    steps(
        "foo.rs becomes foo/mod.rs",
        lambda s: s.rename(SHADOWED, "ws/base/src/shadowed/mod.rs"),
        lambda s: s.replace("ws/base/src/shadowed/mod.rs", "of its own", "in a directory"),
    ),
    steps(
        "foo/mod.rs beside foo.rs",
        lambda s: s.write("ws/base/src/shadowed/mod.rs", 'pub const VALUE: &str = "both";\n'),
    ),
    steps("a module's file is gone", lambda s: s.remove(SHADOWED)),
    steps(
        "a file's name in other case",
        lambda s: s.rename("ws/base/src/odd place.rs", "ws/base/src/Odd Place.rs"),
        lambda s: s.replace(BASE, "odd place.rs", "Odd Place.rs"),
    ),
    steps(
        "a file's name in other case, not followed",
        lambda s: s.rename("ws/base/src/odd place.rs", "ws/base/src/Odd place.rs"),
    ),
    steps(
        "a source of a name outside of ASCII",
        lambda s: s.rename("ws/base/src/odd place.rs", "ws/base/src/größe \u65e5.rs"),
        lambda s: s.replace(BASE, "odd place.rs", "größe \u65e5.rs"),
    ),
    steps(
        "a file whose name is no UTF-8",
        lambda s: s.write(b"ws/base/data/\xff\xfe.bin", b"x"),
        lambda s: s.replace(INSIDE, "inside", "beside an odd name in"),
    ),
    steps("a file that nobody reads", lambda s: s.write("ws/base/data/unread.txt", "x\n")),
    steps("an executable source", lambda s: (s.root / BASE).chmod(0o755)),
    edit("an example", "ws/app/examples/show.rs", "example of", "sample of"),
    edit("a test", "ws/app/tests/whole.rs", "fixture=", "fixture: "),
    edit("a unit test", BASE, '"\\n"));', '"; "));'),
)

INCLUDED: tuple[Mutation, ...] = (
    edit("an included text", INSIDE, "inside the", "inside of the"),
    edit("an included text outside of the package", OUTSIDE, "beside", "outside of"),
    steps("included bytes", lambda s: s.write("ws/base/data/bytes.bin", b"\3\2\1")),
    steps("included bytes, fewer", lambda s: s.write("ws/base/data/bytes.bin", b"")),
    steps("an included text is gone", lambda s: s.remove(OUTSIDE)),
    steps(
        "an included text becomes a link outwards",
        lambda s: s.link(INSIDE, "../../assets/script.sh"),
    ),
    quiet_edit("source of the same size and time", LEAF, "= 100;", "= 200;"),
    quiet_edit("source of the same size, older", LEAF, "= 100;", "= 300;", LONG_AGO),
    quiet_edit("an included text of the same size and time", INSIDE, "inside", "within"),
    quiet_edit("an included text outside, same size and time", OUTSIDE, "beside", "nearby"),
    quiet_edit("an included text outside, older", OUTSIDE, "beside", "before", LONG_AGO),
    steps("sources touched", *(lambda s, p=p: s.set_mtime(p, LONG_AGO) for p in (LEAF, BASE))),
)

SOURCES = DEPENDENCIES + LINES + MODULES + INCLUDED
