"""The workspace that is mutated: made from the template, changed, and put back as it was."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).parent / "template"
PLAIN_C = "int plain_value(void) {{ return {value}; }}\n"
LONG_AGO = 1_500_000_000_000_000_000


def native_library(directory: Path, value: int) -> None:
    """`libplain.a`, whose `plain_value` returns `value`."""
    directory.mkdir(parents=True, exist_ok=True)
    source, made = directory / "plain.c", directory / "plain.o"
    source.write_text(PLAIN_C.format(value=value))
    subprocess.run(["cc", "-c", "-fPIC", source, "-o", made], check=True)
    (directory / "libplain.a").unlink(missing_ok=True)
    subprocess.run(["ar", "crsD", directory / "libplain.a", made], check=True)
    source.unlink()
    made.unlink()


@dataclass(frozen=True)
class Scene:
    """A root directory with the workspace `ws` and the package `beside`; `pristine` is its copy.

    Paths given to the methods are relative to the root.
    """

    root: Path
    pristine: Path

    @classmethod
    def make(cls, directory: Path) -> Scene:
        """The unchanged workspace below `directory`, in `here`."""
        pristine = directory / "pristine"
        shutil.copytree(TEMPLATE, pristine)
        native_library(pristine / "ws/native", 5)
        (pristine / "ws/base/src/linked.rs").symlink_to("../data/linked_source.rs")
        shutil.copytree(pristine, directory / "here", symlinks=True)
        return cls(root=directory / "here", pristine=pristine)

    @property
    def workspace(self) -> Path:
        """Where cargo runs."""
        return self.root / "ws"

    def write(self, path: str | bytes, content: str | bytes) -> None:
        """Write a file, making its directory. `path` in bytes may be no UTF-8."""
        target = self.root / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text, which must be there, in place."""
        text = (self.root / path).read_text()
        assert old in text, f"{path} lacks {old}"
        (self.root / path).write_text(text.replace(old, new))

    def replace_quietly(self, path: str, old: str, new: str, *, mtime: int | None = None) -> None:
        """Replace a text by one of the same size; the file keeps its mtime, or gets `mtime`."""
        assert len(old.encode()) == len(new.encode())
        st = (self.root / path).stat()
        self.replace(path, old, new)
        self.set_mtime(path, mtime or st.st_mtime_ns)

    def set_mtime(self, path: str, mtime: int) -> None:
        """Set a file's mtime in nanoseconds."""
        os.utime(self.root / path, ns=(mtime, mtime))

    def append(self, path: str, text: str) -> None:
        """Add a text at a file's end."""
        with (self.root / path).open("a") as file:
            file.write(text)

    def remove(self, path: str) -> None:
        """Remove a file."""
        (self.root / path).unlink()

    def rename(self, path: str, new: str) -> None:
        """Rename a file, making the new directory."""
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).rename(self.root / new)

    def link(self, path: str, target: str) -> None:
        """Put a symbolic link in the place of whatever is there."""
        (self.root / path).unlink(missing_ok=True)
        (self.root / path).symlink_to(target)

    def revert(self) -> None:
        """Put back what differs from the pristine copy, with its times, and nothing else."""
        before, now = _entries(self.pristine), _entries(self.root)
        for name in sorted(now.keys() - before.keys(), reverse=True):
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        for name in sorted(before):
            if before[name] != now.get(name):
                _put_back(self.pristine / name, self.root / name)

    def copy_to(self, root: Path) -> Scene:
        """The same workspace, as it is now, as another checkout with fresh times."""
        ignore = shutil.ignore_patterns("target")
        shutil.copytree(self.root, root, symlinks=True, ignore=ignore, copy_function=shutil.copy)
        return Scene(root=root, pristine=self.pristine)


def _entries(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """What revert compares, by relative path: mode, mtime and content, since a change may keep
    size and time."""
    found = {}
    for path in _walk(root):
        st = path.lstat()
        if path.is_symlink():
            entry = (st.st_mode, 0, os.fsencode(os.readlink(path)))
        elif stat.S_ISREG(st.st_mode):
            entry = (st.st_mode, st.st_mtime_ns, path.read_bytes())
        else:
            entry = (st.st_mode, 0, b"")
        found[str(path.relative_to(root))] = entry
    return found


def _walk(root: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        if entry.name in ("target", "Cargo.lock"):
            continue
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


def _put_back(source: Path, target: Path) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    if source.is_dir() and not source.is_symlink():
        target.mkdir(exist_ok=True)
        shutil.copymode(source, target)
        return
    shutil.copy2(source, target, follow_symlinks=False)
