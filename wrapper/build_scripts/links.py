"""Links that runs make: how they are kept, so that they lead to the same in any checkout.

cxx-build links what it generates into `cxxbridge` of the target directory too, for editors and
other build systems. That is the one thing that a run may leave outside of OUT_DIR.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.build_scripts.keys import OUTPUTS
from wrapper.build_scripts.names import above, is_below
from wrapper.roots import ROOT, Roots

_BESIDE = "cxxbridge"
_RELATIVE = "distbuild-relative-link"
_numbers = itertools.count()


def links_out(out_dir: str) -> dict[str, str]:
    """The links below a directory that lead out of it, and where to."""
    found = {}
    real = os.path.realpath(out_dir)
    for directory, names, others in os.walk(out_dir):
        for path in (os.path.join(directory, name) for name in (*names, *others)):
            if os.path.islink(path):
                target = os.path.realpath(path)
                if target != real and not target.startswith(real + "/"):
                    found[path] = target
    return found


def links_beside(accesses: Iterable[tuple[str, str]], roots: Roots) -> dict[str, str]:
    """The links that a run has made where it may leave some, and where they lead to."""
    made = {os.path.normpath(path) for kind, path in accesses if kind in "cm"}
    found = sorted(path for path in made if _may_be_left(path, roots))
    return {path: os.path.realpath(path) for path in found if os.path.islink(path)}


def _may_be_left(path: str, roots: Roots) -> bool:
    """Whether it lies in `cxxbridge` of the target directory, or of one there for a target."""
    for target in map(os.path.normpath, roots.targets):
        if path.startswith(f"{target}/"):
            names = path[len(target) + 1 :].split("/")
            return _BESIDE in names[:-1][:2]
    return False


def ways_to(links: Iterable[str]) -> frozenset[str]:
    """The directories that a run makes for its links beside OUT_DIR."""
    found = set()
    for link in links:
        for directory in above(link):
            found.add(directory)
            if os.path.basename(directory) == _BESIDE:
                break
    return frozenset(found)


def add_link(result: re_pb.ActionResult, name: str, path: str, roots: Roots) -> None:
    """The link at a path to the outputs of a run, where it is called `name`. Raises OSError."""
    target = os.readlink(path)
    there = _staged(path, target, roots)
    link = result.output_symlinks.add(path=name, target=there or roots.stage_text(target))
    if there is not None:
        link.node_properties.properties.add(name=_RELATIVE, value="true")


def _staged(path: str, target: str, roots: Roots) -> str | None:
    """Where a relative link leads that does not stay in OUT_DIR, by its name; None for others."""
    if os.path.isabs(target):
        return None
    directory = os.path.dirname(path)
    real = os.path.normpath(os.path.join(directory, target))
    staged = roots.staged(real)
    is_within = all(is_below(each, (roots.out_dir,)) for each in (path, real))
    if staged is None or is_within or _is_other(path, real):
        return None
    is_shortest = os.path.relpath(real, directory) == target.rstrip("/")
    return f"{ROOT}/{staged}{'/' * target.endswith('/')}" if is_shortest else None


def leads_out(link: re_pb.OutputSymlink) -> bool:
    """Whether a link leads from OUT_DIR to where it lies in this checkout alone."""
    if link.target.startswith(ROOT):
        return False
    target = os.path.normpath(os.path.join(os.path.dirname(link.path), link.target))
    return target != OUTPUTS and not target.startswith(f"{OUTPUTS}/")


def target_of(link: re_pb.OutputSymlink, path: str, roots: Roots) -> str:
    """What a link is to say that is made at a path."""
    target = roots.unstage_text(link.target)
    if not any(each.name == _RELATIVE for each in link.node_properties.properties):
        return target
    directory = os.path.dirname(path)
    relative = os.path.relpath(target, directory)
    if _is_other(os.path.join(directory, relative), target):
        return target  # one of the directories is a link itself
    return relative + "/" * target.endswith("/")


def _is_other(path: str, other: str) -> bool:
    return os.path.realpath(path) != os.path.realpath(other)


def is_beside(link: re_pb.OutputSymlink) -> bool:
    """Whether it is none of OUT_DIR's."""
    return not link.path.startswith(f"{OUTPUTS}/")


def put_beside(links: Iterable[re_pb.OutputSymlink], roots: Roots) -> None:
    """Make links outside of OUT_DIR, in place of others; they may be those of several runs. Raises
    OSError."""
    for link in links:
        path = os.path.normpath(roots.real(link.path) or "/")
        if os.path.normpath(link.path) != link.path or not _may_be_left(path, roots):
            raise OSError(f"the result names {link.path}, which is not in OUT_DIR")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        target = target_of(link, path, roots)
        if not os.path.islink(path) or os.readlink(path) != target:
            whole = f"{path}.{os.getpid()}-{next(_numbers)}"
            os.symlink(target, whole)
            os.replace(whole, path)


def named_beside(links: Mapping[str, str], roots: Roots) -> Iterator[tuple[str, str]]:
    """The names and paths of links beside OUT_DIR; what has no name is left out."""
    for path in links:
        if staged := roots.staged(path):
            yield staged, path
