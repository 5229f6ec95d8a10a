"""The options of rustc that the wrapper understands; any other sends the unit to plain rustc."""

from __future__ import annotations

import re

FLAGS = frozenset({"-g", "-O", "--test", "-v", "--verbose"})
"""Options without a value."""

VALUED = frozenset(
    {
        "--allow", "--cap-lints", "--cfg", "--check-cfg", "--codegen", "--color", "--crate-name",
        "--crate-type", "--deny", "--diagnostic-width", "--edition", "--emit", "--error-format",
        "--extern", "--forbid", "--force-warn", "--json", "--out-dir", "--print", "--sysroot",
        "--target", "--warn", "--remap-path-prefix",
    }
)  # fmt: skip
"""Long options with a value, given as `--name value` or `--name=value`."""

OWN_LINKER = re.compile(r"wasm\d\d-.*|(thumb|riscv).*-none-.*|.*-unknown-none.*")
"""Targets for which rustc links with the linker that comes with it."""

SHORT_VALUED = {"-A": "--allow", "-W": "--warn", "-D": "--deny", "-F": "--forbid",
                "-C": "--codegen", "-L": "-L", "-l": "-l", "-Z": "-Z", "-o": "-o"}  # fmt: skip
"""Short options with a value, given as `-X value` or `-Xvalue`, and their long names."""

CODEGEN = frozenset(
    {
        "code-model", "codegen-units", "collapse-macro-debuginfo", "control-flow-guard",
        "debug-assertions", "debuginfo", "default-linker-libraries", "dwarf-version",
        "embed-bitcode", "extra-filename", "force-frame-pointers", "force-unwind-tables",
        "incremental", "inline-threshold", "instrument-coverage", "jump-tables",
        "link-dead-code", "lto", "metadata", "no-redzone", "no-vectorize-loops",
        "no-vectorize-slp", "opt-level", "overflow-checks", "panic", "prefer-dynamic",
        "relocation-model", "relro-level", "split-debuginfo", "strip",
        "symbol-mangling-version", "target-cpu", "target-feature", "linker-plugin-lto",
        "no-prepopulate-passes", "linker", "link-arg", "link-args", "linker-flavor",
        "linker-features", "link-self-contained",
    }
)  # fmt: skip
"""`-C` options whose effect is wholly in the command line, or named by `wrapper.qualifiers`."""

UNSTABLE = frozenset(
    {
        "allow-features", "embed-metadata", "macro-backtrace", "no-embed-metadata",
        "share-generics", "threads", "unstable-options",
    }
)  # fmt: skip
"""`-Z` options of which the same holds."""

EMITS = frozenset({"dep-info", "metadata", "link"})

LINKED_TYPES = frozenset({"bin", "proc-macro", "cdylib", "dylib"})
"""Crate types for which rustc starts the linker."""

KNOWN_TYPES = LINKED_TYPES | {"lib", "rlib", "staticlib"}
"""Crate types whose output files have names that the wrapper knows."""
