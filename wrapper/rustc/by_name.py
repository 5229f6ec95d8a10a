"""Which compiler is run by the name `rustc`: by some cargos, and by macros that ask its version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from wrapper.build_scripts.names import is_below

BY_NAME = "=rustc"
"""Stands among what macros asked for when they ran that, and it was the build's own compiler."""


def compiler_by_name(driver: str, environment: Mapping[str, str]) -> frozenset[str]:
    """The programs that are run where somebody runs `rustc`: with a rustup, first its stand-in.
    None where that leads to another compiler than the build's, or depends on who stands where.
    Blocks.

    `driver` is the program that compiles in the build, rustc or clippy's.
    """
    own = os.path.join(os.path.dirname(driver), "rustc")
    path = environment.get("PATH", "")
    found = shutil.which("rustc", path=path)
    if found is None or not all(map(os.path.isabs, path.split(":"))):
        return frozenset()
    leads_to = _chosen_by_rustup(environment) if _is_of_rustup(found) else found
    return frozenset({found, own}) if _is_same(leads_to, own) else frozenset()


def found_from(cwd: str, name: str, environment: Mapping[str, str]) -> str | None:
    """The program that somebody starts by a name, whose PATH may begin where they stand. Blocks."""
    path = environment.get("PATH", "").split(":")
    program = os.path.join(cwd, name) if "/" in name else name
    return shutil.which(program, path=":".join(os.path.join(cwd, each) for each in path))


def path_of_driver(driver: str, environment: Mapping[str, str], cwd: str) -> str:
    """Where the compiler is that cargo starts by its name alone, as a distribution's does, and
    rustup's of old. The same where that does not tell. Blocks."""
    if driver != "rustc":
        return driver
    found = found_from(cwd, driver, environment)
    if found is not None and _is_of_rustup(found):
        found = _chosen_by_rustup(environment)
    return found or driver


def is_of_rustup(path: str, environment: Mapping[str, str]) -> bool:
    """Whether a file is one by which rustup knows which compiler is wanted."""
    return is_below(path, (_home(environment),))


def _is_of_rustup(program: str) -> bool:
    """Whether it is a link to rustup, of either kind."""
    return _is_same(program, os.path.join(os.path.dirname(program), "rustup"))


def _chosen_by_rustup(environment: Mapping[str, str]) -> str:
    """What the stand-in runs: cargo's own, through which all was started, has noted its choice."""
    name = environment.get("RUSTUP_TOOLCHAIN", "")
    return os.path.join(_home(environment), "toolchains", name, "bin", "rustc") if name else ""


def _home(environment: Mapping[str, str]) -> str:
    home = os.path.join(environment.get("HOME", ""), ".rustup")
    return (environment.get("RUSTUP_HOME") or home).rstrip("/")


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
