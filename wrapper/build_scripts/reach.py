"""What programs that a build script runs may look at."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable

from wrapper.build_scripts.names import is_below

_PROGRAMS = re.compile(
    r"(?:[\w.]+-)*(?:cc|c\+\+|gcc|g\+\+|clang|clang\+\+|cpp|cc1|cc1plus|cc1obj|as|ar|ld|collect2"
    r"|ld\.\w+|lld|lto-wrapper|lto1|ranlib|nm|strip|objcopy|git|pkg-config|pkgconf)(?:-[\d.]+)?"
)
_RUSTS = {"rustc", "rustc-shim", "rustdoc", "rust-lld", "cargo"}
"""Known wherever they are, of whom a toolchain's own is in the key."""

_WORDS = {
    "git": "git", "rustc": "rustc", "rustc-shim": "rustc", "rustdoc": "rustc", "cargo": "cargo",
}  # fmt: skip
_WHERE_PROGRAMS_ARE = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
"""By which they are the distribution's: elsewhere `cc` may be anybody's."""

_OF_TOOLCHAIN = "/lib/rustlib/"
"""On the way to rustc's own linkers."""

OF_PROGRAMS = re.compile(
    r"(C|CPLUS|OBJC)_INCLUDE_PATH|CPATH|LIBRARY_PATH|COMPILER_PATH|LDEMULATION|GCC_\w+|LD_\w+"
    r"|\w*FLAGS\w*|SOURCE_DATE_EPOCH|ZERO_AR_DATE|\w*DEPENDENCIES_OUTPUT|PKG_CONFIG\w*"
    r"|CCACHE_\w+|MACOSX_DEPLOYMENT_TARGET"
)
OF_WORDS = {
    "git": re.compile(r"XDG_CONFIG_HOME|GIT_\w+"),
    "rustc": re.compile(r"RUST\w*"),
    "cargo": re.compile(r"RUST\w*|CARGO_\w+"),
}
"""What those look at of whom `reach_of` has words."""

_OF_GIT = {
    "GIT_AUTHOR": re.compile(r"GIT_AUTHOR_\w+|EMAIL"),
    "GIT_COMMITTER": re.compile(r"GIT_COMMITTER_\w+|EMAIL"),
    "GIT_EDITOR": re.compile(r"GIT_EDITOR|EDITOR|VISUAL|TERM"),
    "GIT_PAGER": re.compile(r"GIT_PAGER|PAGER"),
}
"""What git looks at where it is asked for these."""


def reach_of(programs: Iterable[str]) -> str:
    """`none`, `known` or `any`: what the programs that were run may look at; and words for some of
    them, `git`, `rustc` and `cargo`. Records have `told` too, where the C library told for which
    variables the script asked; and `lists` where it may have gone through all beside, or `stripped`
    where nothing tells."""
    programs = list(programs)
    if not programs:
        return "none"
    names = map(os.path.basename, programs)
    words = {_WORDS[name] for name in names if name in _WORDS}
    first = "known" if all(map(_is_known, programs)) else "any"
    return " ".join([first, *sorted(words)])


def _is_known(program: str) -> bool:
    name = os.path.basename(program)
    if name in _RUSTS:
        return True
    is_systems = is_below(os.path.realpath(program), _WHERE_PROGRAMS_ARE)
    return (is_systems or _OF_TOOLCHAIN in program) and _PROGRAMS.fullmatch(name) is not None


def is_told_git(name: str, words: Collection[str], tokens: str) -> bool:
    """Whether git hears by a variable of what a script has it tell; `words` are the reach's."""
    return "git" in words and any(w in tokens and v.fullmatch(name) for w, v in _OF_GIT.items())
