"""What lies in a package and is seldom a part of a compile: other targets, packages and texts.

A compile's key has none of it until it was read: many commits touch nothing else, and the work is
the same.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Iterable, Iterator

from wrapper.build_scripts.names import is_below
from wrapper.inputs.cargo_manifests import library_root
from wrapper.inputs.inputs import Inputs, is_of_system
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.snapshot import is_left_out
from wrapper.roots import Roots
from wrapper.rustc.arguments import Invocation

_LIBRARIES = (b"\x7fELF", b"!<ar", b"!<th", b"\0asm")
"""What those begin with."""

_ALWAYS = ("src", "Cargo.toml")
_NAMED = re.compile(rb'"(?:(?:\.\./)+|/)([^/"\\]+)')
"""The first name of a path upwards, or from the package's directory."""


def is_apart(path: str, invocation: Invocation, roots: Roots) -> bool:
    """Whether a path is, or lies in, what a package's compile may go without. Blocks.

    A registry's package changes with its version alone, and is taken as a whole.
    """
    package = roots.package
    if is_published(package) or not path.startswith(f"{package}/") or "/.." in path:
        return False
    if is_below(path, (roots.target,)):
        return False
    source = os.path.normpath(os.path.join(roots.workspace, invocation.source))
    return _is_apart(_top(path, package), package, source)


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
    names = set(os.listdir(package)) - tops(kept, package)
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
    """The paths that a package's library may have gone without which has read `kept`. Blocks.
    Raises OSError."""
    names = set(os.listdir(package)) - tops(kept, package)
    source = os.path.join(package, library_root(package))
    yield frozenset()
    yield frozenset(
        os.path.join(package, name) for name in names if _is_apart(name, package, source)
    )


def _is_apart(name: str, package: str, source: str) -> bool:
    """The same of a name in the package's directory, for who compiles what begins at `source`."""
    # linkers look where they are started for the libraries that scripts of the system's name
    is_library = ".so" in name or name.endswith((".a", ".o"))
    if name in _ALWAYS or name.endswith(".rs") or is_library or is_left_out(name):
        return False
    path = os.path.join(package, name)
    # of a directory with the tag no key has anything; of a module rustc looks for both forms
    others = (f"{path}/CACHEDIR.TAG", f"{path}.rs", f"{path}/mod.rs")
    if is_below(source, (path,)) or any(map(os.path.exists, others)):
        return False
    return os.fsencode(name) not in _named_in(source)


def _named_in(source: str) -> frozenset[bytes]:
    """The names in its package's directory by which a source most likely reads something. Who did
    so before it was known would do it in vain on a worker, and each finder look twice."""
    try:
        st = os.stat(source)
        return _named(source, (st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns))
    except OSError:
        return frozenset()


@functools.lru_cache(maxsize=4000)
def _named(source: str, _state: tuple[int, ...]) -> frozenset[bytes]:
    with open(source, "rb") as file:
        return frozenset(_NAMED.findall(file.read()))


def tops(paths: Collection[str], package: str) -> set[str]:
    """The first names of those paths that lie in a package."""
    return {_top(path, package) for path in paths if path.startswith(f"{package}/")}


def _top(path: str, package: str) -> str:
    """The first name of a path below a package."""
    return path[len(package) + 1 :].partition("/")[0]
