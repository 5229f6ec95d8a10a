"""What a run leaves in OUT_DIR and on its output, as an ActionResult, and back."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.build_scripts.keys import OUTPUTS
from wrapper.build_scripts.links import add_link
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.snapshot import Source, is_note, is_text
from wrapper.roots import Roots

_STAGED = "distbuild-staged-paths"
_NOTE_SIZE = 1 << 20


# C's __DATE__, `date` and others
_DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%b %e %Y", "%a %b %e", "%d %b %Y", "%d %B %Y"),
    *("%B %d, %Y", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m/%d/%y"),
    *("%Y.%m.%d", "%Y_%m_%d", "%d-%b-%Y", "%Y-%j", "%G-W%V"),
)

_PARTS_OF_DATES = (
    "%Y",
    "%Y-%m",
    "%y%m%d",
    "%y.%m.%d",
    "%d%m%Y",
    "%H:%M",
    "%H%M%S",
    "%j",
    "%A",
    "%B",
)


class NotStorable(Exception):
    """OUT_DIR holds what is not kept; the message says what."""


def take_outputs(
    out_dir: str, files: FileDigests, roots: Roots, umask: int | None = None
) -> tuple[re_pb.ActionResult, dict[Digest, Source]]:
    """The result with all that is below OUT_DIR, and where its blobs are.

    A file's mode is kept where it is not what the umask makes of a new file's.

    Links, and other build systems' notes about paths, are kept with staged paths, the latter
    marked so. Raises NotStorable and OSError.
    """
    result = re_pb.ActionResult()
    blobs: dict[Digest, Source] = {}
    empty = Digest.of(re_pb.Tree(root=re_pb.Directory()).SerializeToString(), files.function)
    for directory, names, others in os.walk(out_dir):
        base = os.path.relpath(directory, out_dir)
        prefix = OUTPUTS if base == "." else f"{OUTPUTS}/{base}"
        if not names and not others and base != ".":
            result.output_directories.add(path=prefix, tree_digest=empty.to_message())
        for name in [*names, *others]:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            target = os.readlink(path) if stat.S_ISLNK(st.st_mode) else ""
            if not is_text(name + target):
                raise NotStorable("it makes a file whose name is not UTF-8")
            if target:
                add_link(result, f"{prefix}/{name}", path, roots)
            elif stat.S_ISREG(st.st_mode):
                file, digest, source = _output(path, st, files, roots)
                file.path = f"{prefix}/{name}"
                mode = stat.S_IMODE(st.st_mode)
                if umask is not None and mode not in (0o666 & ~umask, 0o777 & ~umask):
                    file.node_properties.unix_mode.value = mode
                blobs[digest] = source
                result.output_files.append(file)
            elif not stat.S_ISDIR(st.st_mode):
                raise NotStorable(f"it makes {name}, which is no file")
    return result, blobs


def _output(
    path: str, st: os.stat_result, files: FileDigests, roots: Roots
) -> tuple[re_pb.OutputFile, Digest, Source]:
    """A file as an output without a name yet, and its blob. Raises OSError."""
    file = re_pb.OutputFile(is_executable=bool(st.st_mode & stat.S_IXUSR))
    source: Source = path
    if is_note(path) and st.st_size <= _NOTE_SIZE:
        source = _staged_note(path, roots) or path
    if isinstance(source, bytes):
        digest = Digest.of(source, files.function)
        file.node_properties.properties.add(name=_STAGED, value="true")
    else:
        digest = files.digest(path, st)
    file.digest.CopyFrom(digest.to_message())
    return file, digest, source


def empty_tree(result: re_pb.ActionResult) -> bytes | None:
    """The one Tree that a result may name: that of an empty directory."""
    if not result.output_directories:
        return None
    return re_pb.Tree(root=re_pb.Directory()).SerializeToString()


def empty_directory(path: str) -> None:
    """Remove all that is in a directory. Raises OSError."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def stamps(directory: str) -> dict[str, tuple[int, int, int]]:
    """All that is in a directory, so that two times can be compared. Raises OSError."""
    found = {}

    def fail(error: OSError) -> None:
        raise error

    for base, names, others in os.walk(directory, onerror=fail):
        for path in (os.path.join(base, name) for name in (*names, *others)):
            st = os.lstat(path)
            is_directory = stat.S_ISDIR(st.st_mode)
            found[path] = (st.st_ino, 0, 0) if is_directory else _identity(st)
    return found


def _identity(st: os.stat_result) -> tuple[int, int, int]:
    return st.st_ino, st.st_size, st.st_mtime_ns


def is_staged(file: re_pb.OutputFile) -> bool:
    """Whether a file's blob has staged paths in it."""
    return any(each.name == _STAGED for each in file.node_properties.properties)


def staged(data: bytes, roots: Roots) -> bytes:
    """A text with staged paths in place of real ones."""
    text = data.decode("utf-8", "surrogateescape")
    return roots.stage_text(text).encode("utf-8", "surrogateescape")


def unstaged(data: bytes, roots: Roots) -> bytes:
    """Undo `staged`, with the paths of these places."""
    text = data.decode("utf-8", "surrogateescape")
    return roots.unstage_text(text).encode("utf-8", "surrogateescape")


def _staged_note(path: str, roots: Roots) -> bytes | None:
    """A note's text with staged paths, None when it has none."""
    with open(path, "rb") as file:
        data = file.read()
    text = staged(data, roots)
    return None if text == data or unstaged(text, roots) != data else text


def times(started: float, *, is_asked: bool) -> Iterable[bytes]:
    """Texts that say when a run took place, which what it made must not hold; `is_asked`: it ran a
    program that tells, so that less than a date is none by chance."""
    for moment in (started, time.time()):
        for form in (*_DATES, *(_PARTS_OF_DATES if is_asked else ())):
            yield time.strftime(form, time.gmtime(moment)).encode()
            yield time.strftime(form, time.localtime(moment)).encode()
        yield str(int(moment))[:7].encode()
