"""Which files a compile writes: rustc's naming rules, for the crate types that cargo asks for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from wrapper.rustc.arguments import Invocation

_PREFIX_SUFFIX = {
    "lib": ("lib", ".rlib"),
    "rlib": ("lib", ".rlib"),
    "staticlib": ("lib", ".a"),
    "cdylib": ("lib", ".so"),
    "dylib": ("lib", ".so"),
    "proc-macro": ("lib", ".so"),
    "bin": ("", ""),
}
_SPECIFIED = {"bin": "exe", "cdylib": "dll", "dylib": "dll", "staticlib": "staticlib"}
"""What target specifications call them."""

_LINKED_FOR_WASM = {"cdylib": ("", ".wasm"), "dylib": ("", ".wasm"), "bin": ("", ".wasm")}


def dep_info_name(invocation: Invocation) -> str:
    """The `.d` file's name within the output directory."""
    return f"{invocation.crate_name}{invocation.extra_filename}.d"


def metadata_name(invocation: Invocation) -> str:
    """The `.rmeta` file's name within the output directory."""
    return f"lib{invocation.crate_name}{invocation.extra_filename}.rmeta"


def early_names(invocation: Invocation) -> tuple[str, ...]:
    """The files with which dependents can begin while the rest is still made: the metadata, and
    what to check it by. Empty where there is nothing to wait for after them."""
    if not {"metadata", "link", "dep-info"} <= set(invocation.emit) or invocation.is_test:
        return ()
    return metadata_name(invocation), dep_info_name(invocation)


def output_names(invocation: Invocation) -> tuple[str, ...]:
    """Names within the output directory of all files that the compile may write, sorted."""
    stem = f"{invocation.crate_name}{invocation.extra_filename}"
    names = set()
    if "dep-info" in invocation.emit:
        names.add(dep_info_name(invocation))
    if "metadata" in invocation.emit:
        names.add(metadata_name(invocation))
    if "link" in invocation.emit:
        types = ("bin",) if invocation.is_test else invocation.crate_types or ("bin",)
        for crate_type in types:
            prefix, suffix = _names_of(invocation, crate_type)
            names.add(f"{prefix}{stem}{suffix}")
            if invocation.codegen("split-debuginfo") == "packed" and crate_type not in (
                "lib",
                "rlib",
                "staticlib",
            ):
                names.add(f"{prefix}{stem}{suffix or ''}.dwp")
    return tuple(sorted(names))


def _names_of(invocation: Invocation, crate_type: str) -> tuple[str, str]:
    """The same, also where a file specifies the target, which may say otherwise."""
    prefix, suffix = _parts_of(crate_type, invocation.target)
    kind = _SPECIFIED.get(crate_type)
    if invocation.target_file is None or kind is None:
        return prefix, suffix
    try:
        with open(invocation.target_file, "rb") as file:
            said = dict(json.load(file))
    except (OSError, ValueError, TypeError):
        return prefix, suffix  # nothing is compiled for it
    return str(said.get(f"{kind}-prefix", prefix)), str(said.get(f"{kind}-suffix", suffix))


def _parts_of(crate_type: str, target: str | None) -> tuple[str, str]:
    """What stands before and after a stem in an output's name."""
    if target is not None and target.startswith(("wasm32-", "wasm64-")):
        return _LINKED_FOR_WASM.get(crate_type) or _PREFIX_SUFFIX[crate_type]
    return _PREFIX_SUFFIX[crate_type]


def library_name(stem: str, target: str | None) -> str:
    """What rustc calls a dynamic library of this stem."""
    prefix, suffix = _parts_of("dylib", target)
    return f"{prefix}{stem}{suffix}"


def debug_objects(invocation: Invocation) -> Iterator[str]:
    """Names of the debug information that rustc left in files of its own, a codegen unit each.

    Nobody knows them before. Those that a compile before this one left are among them.
    """
    if invocation.codegen("split-debuginfo") != "unpacked" or "link" not in invocation.emit:
        return
    stem = f"{invocation.crate_name}{invocation.extra_filename}."
    with os.scandir(invocation.out_dir) as entries:
        for entry in entries:
            if entry.name.startswith(stem) and entry.name.endswith(".dwo"):
                yield entry.name


def may_be_linked(invocation: Invocation, name: str) -> bool:
    """Whether an output may share its file with the cache.

    Dep-info is another in each checkout, and of what `cargo check` makes cargo sets the times.
    """
    return not name.endswith(".d") and "link" in invocation.emit


def _is_build_script(invocation: Invocation) -> bool:
    """Whether cargo runs it for a package: a program of the workspace may be called like one."""
    stem, _ = os.path.splitext(os.path.basename(invocation.source))
    is_so_named = invocation.crate_name == f"build_script_{stem.replace('-', '_')}"
    is_program = os.path.basename(invocation.out_dir) in ("deps", "examples")
    return is_so_named and "bin" in invocation.crate_types and not is_program


def unit_kind(invocation: Invocation) -> str:
    """The word that statistics use for the unit."""
    if invocation.is_test:
        return "test"
    if _is_build_script(invocation):
        return "build-script"
    if not invocation.crate_types:
        return "bench"
    first = invocation.crate_types[0]
    return "lib" if first in ("lib", "rlib") else first


def is_last(invocation: Invocation) -> bool:
    """Whether no other unit is made with this one: programs, tests and benchmarks."""
    return unit_kind(invocation) in ("bin", "test", "bench")
