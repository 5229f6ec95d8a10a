"""What cargo's configuration and the environment say that concerns the wrapper."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wrapper.checks.finding import Finding, fail, ok, warn
from wrapper.config import config_files, wrong_variables
from wrapper.home import BY_HAND
from wrapper.rustc.incremental import VARIABLES, is_on

_OURS = (BY_HAND, "rustc-shim")
_WRAPPERS = {
    "rustc-wrapper": ("RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER"),
    "rustc-workspace-wrapper": (
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    ),
}


def check_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """The DISTBUILD_* variables make sense; files are read, and refused, before."""
    wrong = wrong_variables(environment)
    for sentence in wrong:
        yield fail("settings", sentence, "correct or unset the variable")
    if not wrong:
        yield ok("settings", "see `cargo distbuild config`")


def check_wrappers(directory: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """No other wrapper is set, which would lose its place or ours."""
    found = False
    for key, variables in _WRAPPERS.items():
        for value, origin in _values(key, variables, directory, environment):
            if not value or os.path.basename(value) in _OURS:
                continue
            found = True
            if key == "rustc-wrapper":
                text = f"{value} ({origin}) has no effect under `cargo distbuild`"
            else:
                text = f"{value} ({origin}) makes units of the workspace compile here"
            yield warn("wrappers", text, f"remove it from {origin}, if it is another cache")
    if not found:
        yield ok("wrappers", "no other is set")


def check_incremental(directory: Path, environment: Mapping[str, str]) -> Finding:
    """Incremental compiles serve who edits; where nobody does, they only cost."""
    setting, origin = "on", "cargo's default"
    for value, where in _values("incremental", VARIABLES, directory, environment):
        setting, origin = ("on" if is_on(value) else "off"), where
        break
    if setting == "on" and environment.get("CI"):
        remedy = "set CARGO_INCREMENTAL=0 in CI, unless developers are to get members' results"
        return warn("incremental", f"on ({origin}), in CI", remedy)
    does = "units that are being edited compile here" if setting == "on" else "every unit is shared"
    return ok("incremental", f"{setting} ({origin}): {does}")


def _values(
    key: str, variables: tuple[str, ...], directory: Path, environment: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Values of `build.KEY` with their origin; those of variables first, as cargo has it."""
    for variable in variables:
        if variable in environment:
            yield environment[variable], variable
    for path in config_files(directory, environment):
        try:
            data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # cargo itself says so
        build = data.get("build")
        if isinstance(build, dict) and key in build:
            yield str(build[key]).lower() if key == "incremental" else str(build[key]), str(path)
