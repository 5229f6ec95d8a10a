"""What lies in a package and is seldom a part of a compile: other targets' sources, and texts.

A compile's key has none of it until it was read: many commits touch nothing else, and the work is
the same.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator

from wrapper.build_scripts.names import is_below
from wrapper.inputs.inputs import Inputs, is_of_system
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.snapshot import is_left_out
from wrapper.roots import Roots
from wrapper.rustc.arguments import Invocation

_LIBRARIES = (b"\x7fELF", b"!<ar", b"!<th", b"\0asm")
"""What those begin with."""

_DIRECTORIES = ("tests", "benches", "examples", "fuzz", "doc", "docs", "proptest-regressions")


def is_apart(path: str, invocation: Invocation, roots: Roots) -> bool:
    """Whether a path is, or lies in, what a package's compile may go without. Blocks.

    A registry's package changes with its version alone, and is taken as a whole.
    """
    package = roots.package
    if is_published(package) or not path.startswith(f"{package}/") or "/.." in path:
        return False
    if is_below(path, (roots.target,)):
        return False
    top = _top(path, package)
    if not _is_apart(top, package):
        return False
    source = os.path.normpath(os.path.join(roots.workspace, invocation.source))
    return not is_below(source, (os.path.join(package, top),))


def apart_for(
    invocation: Invocation,
    roots: Roots,
    inputs: Inputs,
    files: Collection[str],
    native: Collection[str],
) -> frozenset[str]:
    """The paths in its package's directory without which a compile goes that reads `files`, and
    looks in the directories `native` for libraries. None where others than rustc may look at the
    package. Blocks. Raises OSError."""
    macros, package = inputs.macros, roots.package
    may_look = macros.suspect is not None or macros.asks_ages or invocation.is_clippy
    if is_published(package) or may_look:
        return frozenset()
    if invocation.links and _has_scripts(invocation, roots, inputs, native):
        return frozenset()
    named = filter(None, (*files, *native, invocation.target_file))
    paths = [os.path.normpath(os.path.join(roots.workspace, each)) for each in named]
    kept = [*paths, *map(os.path.realpath, paths)]
    names = set(os.listdir(package)) - _tops(kept, package)
    there = (os.path.join(package, name) for name in names)
    return frozenset(path for path in there if is_apart(path, invocation, roots))


def _has_scripts(
    invocation: Invocation, roots: Roots, inputs: Inputs, native: Iterable[str]
) -> bool:
    """Whether the linker may get scripts, and by these look for files, in vain unseen: arguments
    name them, attributes in code may hold arguments, and what is taken for a library may be one.
    Raises OSError."""
    if invocation.target_file or any(map(invocation.codegen, ("link-arg", "link-args"))):
        return True
    if any(name.startswith("-") for name in inputs.attributed):
        return True
    own = [each for each in native if not is_of_system(each, roots)]
    return any(not is_below(each, (roots.target,)) or _has_script(each) for each in own)


def _has_script(directory: str) -> bool:
    """Whether what would be taken for a library there is none. Blocks. Raises OSError."""
    if not os.path.isdir(directory):
        return False
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.startswith("lib") and name.endswith((".so", ".a")) and os.path.isfile(path):
            with open(path, "rb") as file:
                if not file.read(4).startswith(_LIBRARIES):
                    return True
    return False


def ways_apart(package: str, kept: Collection[str]) -> Iterator[frozenset[str]]:
    """The paths that a package's compiles may have gone without which read `kept`. Blocks. Raises
    OSError."""
    names = set(os.listdir(package)) - _tops(kept, package)
    yield frozenset()
    yield frozenset(os.path.join(package, name) for name in names if _is_apart(name, package))


def _is_apart(name: str, package: str) -> bool:
    """The same of a name in the package's directory."""
    is_directory = name in _DIRECTORIES
    is_text = name.endswith(".md") and not name.startswith("README")
    if not (is_directory or is_text or name.startswith(".")) or is_left_out(name):
        return False
    if os.path.exists(f"{package}/{name}/CACHEDIR.TAG"):
        return False  # of which no key has anything
    # rustc looks for both forms of a module, in vain for one of them
    forms = (f"{package}/{name}.rs", f"{package}/{name}/mod.rs")
    return not (is_directory and any(map(os.path.exists, forms)))


def _tops(paths: Collection[str], package: str) -> set[str]:
    return {_top(path, package) for path in paths if path.startswith(f"{package}/")}


def _top(path: str, package: str) -> str:
    """The first name of a path below a package."""
    return path[len(package) + 1 :].partition("/")[0]
