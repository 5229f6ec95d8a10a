"""The inputs of one compile: files and directories by their place in the input root."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from remote_apis.bubblewrap import SHOWN
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from wrapper.build_scripts.names import is_below
from wrapper.inputs.code_reads import Reads
from wrapper.inputs.snapshot import RealPlaces, Snapshot, Source
from wrapper.roots import Roots, without_dots
from wrapper.rustc.arguments import NotUnderstood


@dataclass(slots=True, kw_only=True)
class Inputs:
    """Files and whole directories by their staged path, and the sources of all their blobs.

    `shown` are the real paths of the same, in coarser pieces, and `left_out` what lies below these
    and is no input. `system` names the libraries that the linker has to find by itself; `native`
    are the directories of libraries that options name, `searched` those that are the system's,
    where the key has what is taken by its name; `is_for_host`: the compile is for this
    kind of machine; `macros`: what macros may read in it; `published`: the directories of those of
    its dependencies that a registry has, `unpublished` those of the others; `attributed`: the
    libraries that the latter's code has linked; `changed_ns`: when a file in one of the directories
    was last changed; `upwards`: what is, by its name (upwards.py), in the directories above;
    `kinds`: what there is at paths beside the package where macros may look, if that is no mere
    file; `links`: those in directories that lead out of them, and where to;
    `loaded`: the compiler's own libraries that lie elsewhere than it, by their paths;
    `ages`: how old files are, where macros may ask, by the names of those outside of the package,
    and by none of those in it.
    """

    function: DigestFunction
    files: dict[str, Digest] = field(default_factory=dict)
    directories: dict[str, Digest] = field(default_factory=dict)
    blobs: dict[Digest, Source] = field(default_factory=dict)
    shown: dict[str, None] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    native: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    is_for_host: bool = True
    macros: Reads = field(default_factory=Reads)
    published: tuple[str, ...] = ()
    unpublished: tuple[str, ...] = ()
    changed_ns: int = 0
    upwards: dict[str, str] = field(default_factory=dict)
    attributed: frozenset[str] = frozenset()
    kinds: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    loaded: dict[str, Digest] = field(default_factory=dict)
    ages: dict[str, str] = field(default_factory=dict)
    _real_places: RealPlaces = field(default_factory=RealPlaces)

    def add(self, path: str, snapshot: Snapshot, real: str) -> None:
        """A directory and its blobs."""
        self.directories[path] = snapshot.root
        self.blobs.update(snapshot.blobs)
        self.shown[real] = None
        self.left_out.extend(snapshot.left_out)
        self.links.extend(f"{path}/{link}" for link in snapshot.links)
        self.shown.update(dict.fromkeys(snapshot.followed))
        self.changed_ns = max(self.changed_ns, snapshot.changed_ns)

    def add_file(self, path: str, digest: Digest, real: str) -> None:
        """A file; what lies beside it is not shown."""
        self.files[path] = digest
        self.blobs[digest] = real
        self.shown[real] = None

    def is_left_out(self, path: str, *, target: str = "") -> bool:
        """Whether a path, or where the links on the way to it lead, is known and no input.

        `target`: the target directory, where what lies in it is a place of its own.
        """
        left_out = [each for each in self.left_out if each != target]
        if _hides(path, left_out, self.shown):
            return True
        real = self._real_places.of(path)
        return real != path and _hides(
            real, map(self._real_places.of, left_out), map(self._real_places.of, self.shown)
        )

    @property
    def has_macros(self) -> bool:
        """Whether code of others runs within the compile: a dependency is a shared library."""
        return any(path.endswith(".so") for path in self.files)


def _hides(path: str, left_out: Iterable[str], shown: Iterable[str]) -> bool:
    """Whether the nearest of the places around a path is one that is left out."""
    hidden = max((len(each) for each in left_out if is_below(path, (each,))), default=0)
    # OUT_DIR lies in `target`, which is left out where the workspace is a package
    return bool(hidden) and not any(is_below(path, (each,)) for each in shown if len(each) > hidden)


def is_of_system(directory: str, roots: Roots) -> bool:
    """Whether the system's libraries lie there, as in what `pg_config --libdir` says. A user's own
    directories may be below `/usr` too."""
    if not os.path.isabs(directory) or is_below(directory, [each.real for each in roots.places]):
        return False
    return is_below(os.path.realpath(directory), SHOWN)


def refuse_left_out(path: str, roots: Roots, inputs: Inputs) -> None:
    """Raises NotUnderstood for what an input's directory holds and its digest does not."""
    if inputs.is_left_out(path, target=roots.target):
        raise NotUnderstood(f"reads {path}, which has no shared name")


def without_dots_or_refuse(path: str) -> str:
    """The same without `..`, by which a path seems to lie in what it leads out of. Raises
    NotUnderstood where it leads elsewhere then."""
    normal = without_dots(path)
    if normal != os.path.normpath(path):
        raise NotUnderstood(f"reads {path}, which has no shared name")
    return normal


def staged_or_refuse(roots: Roots, path: str) -> str:
    """The place of a path in the input root. Raises NotUnderstood when it has none."""
    # a target directory may have `..` in its own name
    staged = roots.staged(path) or roots.staged(without_dots_or_refuse(path))
    if staged is None:
        raise NotUnderstood(f"reads {path}, which has no shared name")
    return staged
