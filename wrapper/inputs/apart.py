"""What lies in a package and is seldom a part of a compile: other targets' sources, and texts.

A compile's key has none of it until it was read: many commits touch nothing else, and the work is
the same.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from wrapper.build_scripts.names import is_below
from wrapper.inputs.macro_trust import is_published
from wrapper.inputs.snapshot import is_left_out
from wrapper.roots import Roots
from wrapper.rustc.arguments import Invocation

_DIRECTORIES = ("tests", "benches", "examples", "fuzz", "doc", "docs")


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
    source = os.path.normpath(os.path.join(roots.workspace, invocation.source))
    return not is_below(source, (os.path.join(package, top),)) and _is_apart(top, package)


def apart_but_for(kept: Collection[str], invocation: Invocation, roots: Roots) -> frozenset[str]:
    """The paths in a package's directory that a compile may go without which reads `kept`.
    Blocks. Raises OSError."""
    if is_published(roots.package):
        return frozenset()
    package = roots.package
    names = set(os.listdir(package)) - _tops(kept, package)
    paths = (os.path.join(package, name) for name in names)
    return frozenset(path for path in paths if is_apart(path, invocation, roots))


def ways_apart(package: str, kept: Collection[str]) -> Iterator[frozenset[str]]:
    """The paths that a package's compiles may have gone without which read `kept`. Blocks. Raises
    OSError."""
    names = set(os.listdir(package)) - _tops(kept, package)
    yield frozenset()
    yield frozenset(os.path.join(package, name) for name in names if _is_apart(name, package))


def _is_apart(name: str, package: str) -> bool:
    """The same of a name in the package's directory."""
    if is_left_out(name) or os.path.exists(f"{package}/{name}/CACHEDIR.TAG"):
        return False  # of which no key has anything
    is_text = name.endswith(".md") and not name.startswith("README")
    if is_text or name.startswith("."):
        return True
    # rustc looks for both forms of a module, in vain for one of them
    forms = (f"{package}/{name}.rs", f"{package}/{name}/mod.rs")
    return name in _DIRECTORIES and not any(map(os.path.exists, forms))


def _tops(paths: Collection[str], package: str) -> set[str]:
    return {_top(path, package) for path in paths if path.startswith(f"{package}/")}


def _top(path: str, package: str) -> str:
    """The first name of a path below a package."""
    return path[len(package) + 1 :].partition("/")[0]
