"""Snapshots of directories: everything in them as a Merkle tree, with where each blob is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import dataclass, field

from remote_apis.digest import Digest
from remote_apis.tree_builder import TreeBuilder
from wrapper.build_scripts.names import is_below
from wrapper.inputs.file_digests import FileDigests

MAX_FILES = 20_000
_MAX_FOLLOWED = 16
_MAX_LINKS = 40
"""As the kernel follows."""

_NOTES = (".pc", ".la", ".lai", ".cmake", ".log", ".d", ".Po", ".Plo", ".sh", ".xsl", "-config")
_NOTE_FILES = (
    *("CMakeCache.txt", "Makefile", "install_manifest.txt", "DartConfiguration.tcl"),
    *("config.status", "libtool", "build.ninja", "compile_commands.json"),
)
_OF_CMAKE = "CMakeFiles"

_NOT_FOR_RUSTC = (*_NOTE_FILES, _OF_CMAKE, "probe")
Source = bytes | str
"""Where a blob is: its bytes, or the path of a file that holds them."""


class NotSendable(Exception):
    """The directory cannot be sent, or has more files than are worth it; the message says so."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A directory as it was: its root digest and the sources of all blobs below it.

    `left_out` are the real paths of directories and links that are no part of it; `followed` those
    of directories elsewhere whose content is; `links` the links in whose place there is what they
    lead to, with where that is. `changed_ns`: when one of its files was last changed, or a
    directory or link named, by the time of its status, which nothing puts back. `ages` says of all
    that is below, where it is wanted, which files these are and when they were changed.
    """

    root: Digest
    blobs: dict[Digest, Source] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    followed: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    changed_ns: int = 0
    ages: tuple[str, ...] = ()


Skip = Callable[[os.DirEntry[str]], bool]
"""True leaves an entry out."""


def is_left_out(name: str) -> bool:
    """Whether what has this name is no part of a package, whatever it is."""
    return name in (".git", ".hg", ".jj", "node_modules") or name.endswith(".profraw")


def skip_in_package(target: str, apart: Container[str] = ()) -> Skip:
    """Version control, target directories and what a program compiled for coverage leaves where it
    ran are no part of a package; `target` is the build's own, `apart` the paths of more.

    Packages inside of a package stay: a macro may well read them.
    """

    def skip(entry: os.DirEntry[str]) -> bool:
        if is_left_out(entry.name) or entry.path in apart:
            return True
        if not entry.is_dir():
            return False
        return entry.path == target or os.path.exists(f"{entry.path}/CACHEDIR.TAG")

    return skip


def skip_in_out_dir(entry: os.DirEntry[str]) -> bool:
    """Build scripts leave behind the results of compiler probes, which differ between runs, and
    notes of other build systems, which hold the paths of where they were made.

    A compile that reads one of these all the same is not kept: dep-info names it.
    """
    return entry.name in _NOT_FOR_RUSTC or entry.name.endswith((*_NOTES, ".rmeta"))


def skip_probes_too(entry: os.DirEntry[str]) -> bool:
    """The same of an OUT_DIR that no option of rustc's names."""
    return skip_in_out_dir(entry) or is_probe(entry.name)


def is_probe(path: str) -> bool:
    """Whether a file is what old forms of a compiler probe leave (heapless): a library that nobody
    uses, with the path of where it was made."""
    return os.path.basename(path) == "libprobe.rlib"


def is_note(path: str) -> bool:
    """Whether a file is a note of another build system's, which holds the paths of where it was
    made."""
    is_in_cmakes = f"/{_OF_CMAKE}/" in path
    return is_in_cmakes or path.endswith(_NOTES) or os.path.basename(path) in _NOTE_FILES


def skip_nothing(entry: os.DirEntry[str]) -> bool:
    """Take every entry."""
    return False


def take_snapshot(
    root: str,
    files: FileDigests,
    skip: Skip,
    *,
    within: str = "",
    until_ns: int | None = None,
    with_ages: bool = False,
) -> Snapshot:
    """Walk a directory. Raises OSError, or NotSendable beyond 20,000 files or for odd names.

    A symbolic link that stays within what is taken is kept as one; one that leads out of it to a
    file becomes that file, and so does a directory that lies in the directory `within`. One that
    leads out to another directory, or to nothing, is left out. `until_ns`: changes after that time
    are not noted as such.
    """
    return _Walk(root, files, skip, within, until_ns, with_ages=with_ages).take()


class _Walk:
    """One walk, and what it has found."""

    def __init__(
        self,
        root: str,
        files: FileDigests,
        skip: Skip,
        within: str,
        until_ns: int | None,
        *,
        with_ages: bool,
    ) -> None:
        self._root = root
        self._within = within
        self._followed: list[str] = []
        self._files = files
        self._skip = skip
        self._builder = TreeBuilder(files.function)
        self._blobs: dict[Digest, Source] = {}
        self._left_out: list[str] = []
        self._links: list[tuple[str, os.DirEntry[str]]] = []
        self._pending = [(root, "")]
        self._count = 0
        self._replaced: list[str] = []
        self._until_ns = until_ns
        self._changed_ns = 0
        self._ages: list[str] | None = [] if with_ages else None
        self._note_change(when_moved(os.lstat(root)))

    def take(self) -> Snapshot:
        """See `take_snapshot`."""
        while self._pending:
            directory, prefix = self._pending.pop()
            with os.scandir(directory) as entries:
                for entry in entries:
                    if self._skip(entry):
                        self._leave_out(entry)
                        continue
                    path = prefix + entry.name
                    if not is_text(path):
                        raise NotSendable(f"{directory} has a file whose name is not UTF-8")
                    self._take(path, entry)
            if self._count > MAX_FILES:
                raise NotSendable(f"{self._root} has more than {MAX_FILES} files")
            if not self._pending:
                self._take_links()  # now it is known what is left out
        made: dict[Digest, bytes] = {}
        digest = self._builder.build(made)
        blobs = {**self._blobs, **made}
        left_out, followed = tuple(self._left_out), tuple(self._followed)
        ages = tuple(sorted(self._ages or ()))
        links = tuple(sorted(self._replaced))
        return Snapshot(digest, blobs, left_out, followed, links, self._changed_ns, ages)

    def _note_change(self, when_ns: int) -> None:
        if self._until_ns is None or when_ns <= self._until_ns:
            self._changed_ns = max(self._changed_ns, when_ns)

    def _note_age(self, path: str, st: os.stat_result) -> None:
        if self._ages is not None:
            self._ages.append(f"{path} {age(st)}")

    def _take_links(self) -> None:
        links, self._links = self._links, []
        for path, entry in links:
            st = entry.stat(follow_symlinks=False)
            self._note_change(when_moved(st))
            self._note_age(path, st)
            ways = list(_links_on_way(entry.path))
            for way in ways:
                self._note_change(when_moved(os.lstat(way)))
            if _stays_inside(entry.path, ways, self._root, self._left_out):
                self._builder.add_symlink(path, os.readlink(entry.path))
                continue
            self._replaced.append(f"{path} {os.readlink(entry.path)}")
            if self._may_follow(entry):
                self._followed.append(os.path.realpath(entry.path))
                self._note_age(path, entry.stat())
                self._take_directory(path, entry)
            else:
                self._take_file(path, entry)

    def _may_follow(self, link: os.DirEntry[str]) -> bool:
        """Whether a link leads to a directory that may be taken in its place: no way round."""
        if not self._within or not link.is_dir() or len(self._followed) >= _MAX_FOLLOWED:
            return False
        root, real = os.path.realpath(self._root), os.path.realpath(link.path)
        around = (root, os.path.realpath(os.path.dirname(link.path)))
        is_way_round = is_below(real, (root,)) or any(is_below(each, (real,)) for each in around)
        return not is_way_round and _is_source(real, os.path.realpath(self._within))

    def _leave_out(self, entry: os.DirEntry[str]) -> None:
        self._left_out.append(entry.path)
        if self._followed:
            self._left_out.append(real_place(entry.path))

    def _take(self, path: str, entry: os.DirEntry[str]) -> None:
        if entry.is_symlink():
            self._links.append((path, entry))
        elif entry.is_dir(follow_symlinks=False):
            st = entry.stat(follow_symlinks=False)
            self._note_change(when_moved(st))
            self._note_age(path, st)
            self._take_directory(path, entry)
        else:
            self._take_file(path, entry)

    def _take_directory(self, path: str, entry: os.DirEntry[str]) -> None:
        self._builder.make_directory(path)
        self._pending.append((entry.path, path + "/"))

    def _take_file(self, path: str, entry: os.DirEntry[str]) -> None:
        """What is, or leads to, a file; anything else is left out."""
        if not entry.is_file():
            self._leave_out(entry)
            return
        self._count += 1
        st = entry.stat()
        self._note_change(st.st_ctime_ns)
        self._note_age(path, st)
        digest = self._files.digest(entry.path, st)
        self._blobs[digest] = entry.path
        self._builder.add_file(path, digest, executable=bool(st.st_mode & 0o111))


def when_moved(st: os.stat_result) -> int:
    """When a directory or link got its name, as far as its times tell (ns): what comes and goes in
    a directory changes both."""
    is_moved = stat.S_ISLNK(st.st_mode) or st.st_ctime_ns > st.st_mtime_ns
    return st.st_ctime_ns if is_moved else 0


def age(st: os.stat_result) -> str:
    """Which file it is, and when it was changed: what is the same in that was also made then."""
    return f"{st.st_dev}:{st.st_ino} {st.st_mtime_ns} {st.st_ctime_ns}"


def is_text(name: str) -> bool:
    """Whether a name can be said in a message; others hold surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_source(directory: str, within: str) -> bool:
    """Whether a directory lies in another, and in nothing there that packages leave out."""
    while directory != within:
        directory, name = os.path.split(directory)
        path = os.path.join(directory, name)
        if not name or is_left_out(name) or os.path.exists(f"{path}/CACHEDIR.TAG"):
            return False
    return True


def real_place(path: str) -> str:
    """Where a path lies, without following it where it is a link itself."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


class RealPlaces:
    """`real_place` for many paths in few directories."""

    def __init__(self) -> None:
        self._directories: dict[str, str] = {}

    def of(self, path: str) -> str:
        """Where a path lies."""
        directory, name = os.path.split(path)
        return os.path.join(self.directory(directory), name)

    def directory(self, path: str) -> str:
        """Where a directory is, by way of all links; as `os.path.realpath`, which looks at each
        directory above each time."""
        known = self._directories.get(path)
        if known is None:
            known = self._directories[path] = self._find(path)
        return known

    def _find(self, path: str) -> str:
        above, name = os.path.split(path)
        if not above or above == path:
            return os.path.realpath(path)
        directory = self.directory(above)
        if name in ("", "."):
            return directory
        if name == "..":
            return os.path.dirname(directory)
        place = os.path.join(directory, name)
        return os.path.realpath(place) if os.path.islink(place) else place


def _stays_inside(link: str, ways: Collection[str], root: str, left_out: Iterable[str]) -> bool:
    """Whether a link names, and by way of others, `ways`, reaches, a place below `root` that is not
    left out: what lies anywhere else is in no digest, nor is where a link there leads."""
    target = os.readlink(link)
    full = os.path.normpath(os.path.join(os.path.dirname(link), target))
    if os.path.isabs(target) or not full.startswith(root + "/"):
        return False
    inside, hidden = os.path.realpath(root) + "/", [*map(real_place, left_out)]
    return not any(os.path.isabs(os.readlink(way)) for way in ways) and all(
        place.startswith(inside) and not is_below(place, hidden)
        for place in (*ways, os.path.realpath(link))
    )


def _links_on_way(link: str) -> Iterator[str]:
    """The other links by way of which one leads where it does."""
    place = os.path.realpath(os.path.dirname(link))
    names = os.readlink(link).split("/")
    for _ in range(_MAX_LINKS):
        while names:
            path = os.path.normpath(os.path.join(place, names.pop(0)))
            if os.path.islink(path):
                break
            place = path
        else:
            return
        yield path
        target = os.readlink(path)
        place = "/" if os.path.isabs(target) else place
        names = [*target.split("/"), *names]
