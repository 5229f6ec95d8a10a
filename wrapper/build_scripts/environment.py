"""Which variables a run of a build script depends on. Pure.

cargo's own always count. The user's count when the script names them, in its program or in
`rerun-if-env-changed`, or when it runs other programs that are known to look at them; and all of
them when it runs programs of which that is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from wrapper.build_scripts.reach import OF_PROGRAMS, OF_WORDS, is_told_git

_CARGOS = re.compile(
    r"CARGO_(CFG|FEATURE|PKG)_.+|CARGO_MANIFEST_(DIR|PATH|LINKS)|CARGO_ENCODED_RUSTFLAGS|DEP_.+"
    r"|TARGET|HOST|OPT_LEVEL|PROFILE|DEBUG|OUT_DIR|RUSTC|RUSTDOC|RUSTC_LINKER"
)
_NEUTRAL = re.compile(
    r"PATH|LD_LIBRARY_PATH|HOME|SHLVL|PWD|OLDPWD|_|TMPDIR|TEMP|TMP|DISTBUILD_\w+|CARGO|CARGO_HOME"
    r"|CARGO_MAKEFLAGS|MAKEFLAGS|MFLAGS|MAKELEVEL|NUM_JOBS|RUSTC_WRAPPER"
    r"|RUSTC_WORKSPACE_WRAPPER|CARGO_BUILD_RUSTC_WRAPPER|RUSTUP_\w+"
    r"|RUST_RECURSION_COUNT|RUST_BACKTRACE|RUST_LIB_BACKTRACE"
    r"|(?i:(http|https|ftp|no|all)_proxy)"
)
"""What differs between users and runs, and changes no result: PATH and LD_LIBRARY_PATH count by
what is found along them. Every Rust program names some of them."""

_NEUTRAL_UNLESS_ASKED_FOR = ("PWD", "OLDPWD", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "SHLVL")
"""Those of them for which Rust's own library does not ask."""

SESSION = re.compile(
    r"USER|USERNAME|LOGNAME|SHELL|TERM|COLORTERM|TERM_\w+|LS_COLORS|EDITOR|VISUAL|PAGER|LESS\w*"
    r"|DISPLAY|WAYLAND_\w+|XAUTHORITY|XDG_(?!CONFIG|DATA|CACHE|STATE)\w+|DBUS_\w+|SSH_\w+|GPG_\w+"
    r"|DESKTOP_SESSION|GDMSESSION|SESSION_MANAGER|SYSTEMD_EXEC_PID|MANAGERPID|WINDOWPATH"
    r"|XMODIFIERS|(?:GTK|QT)_IM_MODULE|(?:GNOME|KONSOLE|VTE|KITTY|ALACRITTY|WEZTERM|STARSHIP)_\w+"
    r"|TMUX\w*|STY|WINDOWID|HIST\w+|HOSTNAME|MAIL|INVOCATION_ID|JOURNAL_STREAM"
    r"|GIT_(?:ASKPASS|EDITOR|SEQUENCE_EDITOR|PAGER|TERMINAL_PROMPT|(?:AUTHOR|COMMITTER)_\w+)"
    r"|VSCODE_\w+|npm_\w+|RUST_LOG|CARGO_LOG|CARGO_BUILD_JOBS|CARGO_(?:TERM|NET|HTTP|REGISTRIES)_\w+"
)
"""Of the user's session, or of cargo's own ways: of no interest unless the script names them."""

_OF_CARGO = re.compile(
    r"CARGO_(?:INCREMENTAL|TARGET_DIR|BUILD_(?:INCREMENTAL|TARGET_DIR|BUILD_DIR)|PROFILE_\w+)"
)
"""What cargo makes of them it tells by other variables: of no interest unless it runs again, or the
script names them."""

CI_SERVICES = "GITHUB|RUNNER|ACTIONS|CI|GITLAB|BUILDKITE|CIRCLE|TRAVIS|JENKINS"
RUN_OF_CI = (
    rf"CI|(?:{CI_SERVICES})_\w+|Image(?:OS|Version)"
    r"|BUILD_(?:ID|NUMBER|TAG|URL|DISPLAY_NAME)|EXECUTOR_NUMBER"
)
_OF_CI = re.compile(RUN_OF_CI)
"""Of one run of a build service: of no interest unless the script names them, or a file that was
read where programs ran that may look at any variable."""

_LOADED = re.compile(r"LD_PRELOAD|LD_AUDIT")
_LOCALE = re.compile(r"LANG|LANGUAGE|LC_\w+|TZ")
NO_CHANCE = 4
"""So many capitals in a row are hardly there by chance."""

_NO_NAMES = re.compile(r"CAPACITY|VCINSTALLDIR|LC_ALLC?VSLANG|VSLANG|SIGTERM")
"""In messages of the standard library, and what the crate cc asks for, or sets: there is no `CI` in
these, which all of a team's CI has and no developer, and no `LANG` or `TERM`."""


def cargos_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What cargo itself tells a build script."""
    return {name: value for name, value in environment.items() if _CARGOS.fullmatch(name)}


def is_neutral(name: str) -> bool:
    """Whether a variable differs between users and runs, and changes no result."""
    return _NEUTRAL.fullmatch(name) is not None


def may_count(name: str) -> bool:
    """Whether a run may depend on a variable for which its script asks, beside cargo's own."""
    is_free = not is_neutral(name) or name in _NEUTRAL_UNLESS_ASKED_FOR
    return name != "" and is_free and not _CARGOS.fullmatch(name)


def users_variables(
    environment: Mapping[str, str], *, tokens: str, named: Iterable[str], reach: str
) -> dict[str, str]:
    """The user's variables that a run depends on, as they are here."""
    names, tokens = set(named), _NO_NAMES.sub(" ", tokens)
    return {
        name: value
        for name, value in environment.items()
        if name in names or (not _CARGOS.fullmatch(name) and _counts(name, tokens, reach))
    }


def _counts(name: str, tokens: str, reach: str) -> bool:
    if is_neutral(name):
        return False
    first, *words = reach.split()
    if is_told_git(name, words, tokens):
        return True
    if SESSION.fullmatch(name) or _LOCALE.fullmatch(name):
        # SHELL is part of names like CC_SHELL_ESCAPED_FLAGS
        is_named = re.search(rf"(?<!_){name}(?!_)", tokens) is not None or _is_begun(name, tokens)
        looks_for_locale = first == "any" or "git" in words
        return is_named or (looks_for_locale and _LOCALE.fullmatch(name) is not None)
    if any(OF_WORDS[word].fullmatch(name) for word in words if word in OF_WORDS):
        return True
    if _OF_CI.fullmatch(name) or _OF_CARGO.fullmatch(name):
        return name in tokens or _is_begun(name, tokens)
    if first == "any" or "lists" in words or (first != "none" and OF_PROGRAMS.fullmatch(name)):
        return True
    if _LOADED.fullmatch(name):
        return True
    is_odd = not name.isupper() or (len(name) < NO_CHANCE and name != "CI")
    if is_odd and "told" in words:
        return False  # no search tells whether the program has such names
    is_told = "told" in words and "stripped" not in words
    return is_odd or _is_among_told(name, tokens) or (not is_told and _is_named(name, tokens))


def _is_begun(name: str, tokens: str) -> bool:
    """Whether a word of a program's is the first part of a name."""
    return f" {name.partition('_')[0]}_ " in f" {tokens} "


def _is_among_told(name: str, tokens: str) -> bool:
    """Whether a program whose questions are told may come upon a variable all the same: programs
    that go through all of them look for names, or beginnings."""
    first, line, _ = name.partition("_")
    if first not in tokens:
        return False  # of most variables, and sooner said than by a pattern
    words = f"{name}(?!_)|{first}_" if line else f"{name}(?!_)"
    return re.search(f"(?<!_)(?:{words})", tokens) is not None


def _is_named(name: str, tokens: str) -> bool:
    """Whether a program that has these words may ask for a variable.

    A name may be put together: its first part or its last two are then in the program.
    """
    parts = name.split("_")
    ends = [parts[0]] if len(parts[0]) > 2 else []
    ends += ["_".join(parts[-2:])] if len(parts) > 2 else []
    return any(each in tokens for each in (name, *ends))
