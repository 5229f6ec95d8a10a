"""Which environment variables belong to a compile, and so to its key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from wrapper.layout import said_by_script
from wrapper.rustc.arguments import Invocation

_ALLOWED = re.compile(
    r"CARGO_PKG_\w+|CARGO_(CRATE|BIN)_NAME|CARGO_MANIFEST_(DIR|PATH|LINKS)"
    r"|CARGO_TARGET_TMPDIR|OUT_DIR|RUSTC_BOOTSTRAP"
)
_PROGRAM = "CARGO_BIN_EXE_"
"""cargo sets these for a package's integration tests and benches, and when it runs them: a cargo
that one starts, as trybuild does, has them from there, and hands them on to all its compiles."""

OF_CLIPPY = frozenset(
    {"CARGO_PRIMARY_PACKAGE", "CLIPPY_ARGS", "CLIPPY_CONF_DIR", "CLIPPY_DISABLE_DOCS_LINKS"}
)
"""What clippy goes by, whose `--no-deps` looks at packages alone for which cargo was asked. All
that it does not look at is compiled without it, and the same."""

_OF_APPLE = frozenset(
    f"{system}_DEPLOYMENT_TARGET" for system in ("MACOSX", "IPHONEOS", "TVOS", "WATCHOS", "XROS")
)
_OF_DATES = frozenset({"SOURCE_DATE_EPOCH"})
_DATED = re.compile(r"windows|uefi|cygwin")
"""Targets whose linkers put the time into what they make, and ask for it there."""

_RUSTC_ENV = re.compile(rb"^cargo::?rustc-env=([^=\n]+)=", re.MULTILINE)


def environment_of_action(
    environment: Mapping[str, str], learned: Iterable[str] = ()
) -> dict[str, str]:
    """The variables that a compile may see: cargo's own, its build script's, and learned ones.

    `learned` are names that an earlier result of the same unit turned out to read.
    """
    names = {name for name in environment if is_in_every_key(name)}
    if "CARGO_TARGET_TMPDIR" in environment:  # set for the same units, and not when they run
        names |= {name for name in environment if name.startswith(_PROGRAM)}
    names.update(build_script_variables(environment.get("OUT_DIR")))
    names.update(learned)
    return {name: environment[name] for name in sorted(names) if name in environment}


def of_target(invocation: Invocation) -> frozenset[str]:
    """What rustc and linkers ask for by themselves where they compile for some targets; for one
    that a file specifies, all of it."""
    target, is_any = invocation.target or "", invocation.target_file is not None
    of_apple = _OF_APPLE if is_any or "apple" in target else frozenset()
    of_dates = _OF_DATES if is_any or _DATED.search(target) else frozenset()
    return of_apple | of_dates


def is_in_every_key(name: str) -> bool:
    """Whether each compile's key has a variable, where it is set."""
    return _ALLOWED.fullmatch(name) is not None


def build_script_variables(out_dir: str | None) -> set[str]:
    """Names that the package's build script set with `cargo::rustc-env`.

    cargo keeps the script's output in a file beside OUT_DIR.
    """
    if not out_dir:
        return set()
    try:
        with open(said_by_script(out_dir), "rb") as file:
            return {name.decode(errors="replace") for name in _RUSTC_ENV.findall(file.read())}
    except FileNotFoundError:
        return set()
