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

OF_FUZZING = re.compile(
    r"passes=sancov-module|llvm-args=(\s*-(sanitizer-coverage-(level|inline-8bit-counters|pc-table"
    r"|trace-(compares|divs|geps|pc|pc-guard)|stack-depth|prune-blocks)(=\d+)?"
    r"|simplifycfg-branch-fold-threshold=\d+))+"
)
"""Values by which a program is told for a fuzzer what it ran through (cargo fuzz, cargo afl), of
options that may have the compiler read anything."""

UNSTABLE = frozenset(
    {
        "allow-features", "always-encode-mir", "box-noalias", "branch-protection", "cf-protection",
        "codegen-backend", "contract-checks", "crate-attr", "cross-crate-inline-threshold",
        "debug-info-for-profiling", "debug-info-type-line-numbers", "debuginfo-compression",
        "default-visibility", "direct-access-external-data", "dwarf-version", "dylib-lto",
        "embed-metadata", "embed-source", "emit-stack-sizes", "export-executable-symbols",
        "fewer-names", "flatten-format-args", "fmt-debug", "function-return", "function-sections",
        "hint-mostly-unused", "inline-llvm", "inline-mir", "inline-mir-hint-threshold",
        "inline-mir-threshold", "instrument-mcount", "instrument-xray", "layout-seed",
        "location-detail", "macro-backtrace", "merge-functions", "min-function-alignment",
        "mir-enable-passes", "mir-include-spans", "mir-opt-level", "mutable-noalias",
        "next-solver", "no-embed-metadata", "no-parallel-backend", "no-unique-section-names",
        "panic-abort-tests", "panic-in-drop", "plt", "polonius", "randomize-layout",
        "relax-elf-relocations", "retpoline", "sanitizer", "sanitizer-cfi-canonical-jump-tables",
        "sanitizer-cfi-generalize-pointers", "sanitizer-cfi-normalize-integers",
        "sanitizer-memory-track-origins", "sanitizer-recover", "saturating-float-casts",
        "share-generics", "split-dwarf-inlining", "split-lto-unit", "stack-protector",
        "staticlib-allow-rdylib-deps", "staticlib-prefer-dynamic", "strict-init-checks", "thinlto",
        "threads", "tls-model", "trap-unreachable", "tune-cpu", "ub-checks", "unstable-options",
        "use-ctors-section", "validate-mir", "verify-llvm-ir", "virtual-function-elimination",
    }
)  # fmt: skip
"""`-Z` options of which the same holds, but for the values below."""

NOT_BY_NAME = re.compile(r"codegen-backend=.*[^\w-].*|tune-cpu=native")
"""A compiler's back end that is a file, and this machine's own processor."""

EMITS = frozenset({"dep-info", "metadata", "link"})

LINKED_TYPES = frozenset({"bin", "proc-macro", "cdylib", "dylib"})
"""Crate types for which rustc starts the linker."""

KNOWN_TYPES = LINKED_TYPES | {"lib", "rlib", "staticlib"}
"""Crate types whose output files have names that the wrapper knows."""
