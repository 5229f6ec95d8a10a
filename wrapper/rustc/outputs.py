"""Which files a compile writes: rustc's naming rules, for the crate types that cargo asks for."""

from __future__ import annotations

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
            prefix, suffix = _PREFIX_SUFFIX[crate_type]
            names.add(f"{prefix}{stem}{suffix}")
            if invocation.codegen("split-debuginfo") == "packed" and crate_type not in (
                "lib",
                "rlib",
                "staticlib",
            ):
                names.add(f"{prefix}{stem}{suffix or ''}.dwp")
    return tuple(sorted(names))


def may_be_linked(invocation: Invocation, name: str) -> bool:
    """Whether an output may share its file with the cache: compilers replace these, and no other
    program writes to them. Of what `cargo check` makes cargo sets the times."""
    if unit_kind(invocation) == "build-script":
        return "." not in name  # the program
    return name.endswith((".rlib", ".rmeta")) and "link" in invocation.emit


def unit_kind(invocation: Invocation) -> str:
    """The word that statistics use for the unit."""
    if invocation.is_test:
        return "test"
    if invocation.crate_name.startswith("build_script_") and "bin" in invocation.crate_types:
        return "build-script"
    if not invocation.crate_types:
        return "bench"
    first = invocation.crate_types[0]
    return "lib" if first in ("lib", "rlib") else first
