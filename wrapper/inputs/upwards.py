"""What macros look for in the workspace and each directory above it, as they do for `.env`.

Such files have a name that is everybody's, `above:.env`, and count by which of the directories has
one, and what is in it, or by there being none. cargo's configuration, which cargo reads where a
macro asks it, counts by what it says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping

from wrapper.build_scripts.names import ABOVE, above
from wrapper.inputs.cargo_configuration import HOME, files_of_user, said_by_user
from wrapper.inputs.file_digests import FileDigests
from wrapper.roots import Roots

CONFIGURATION = f"{ABOVE}cargo's configuration"
_STATE = re.compile(rf"({ABOVE}.*?)((?: (?:\d+|{HOME})=.*)?)", re.DOTALL)


class Upwards:
    """The directories in which a workspace lies, the nearest first."""

    def __init__(self, roots: Roots, environment: Mapping[str, str]) -> None:
        self._roots = roots
        self._environment = environment
        self._directories = dict.fromkeys(above(roots.workspace))

    def names(self, paths: Iterable[str], looked: Container[str]) -> Iterator[str]:
        """The names of those of some paths for which somebody who `looked` at these went upwards:
        who looks in one directory alone may mean HOME, or that very one."""
        for path in paths:
            directory, name = os.path.split(path)
            if directory in self._directories and self._is_on_way(path, name, looked):
                yield f"{ABOVE}{name}"

    def _is_on_way(self, path: str, name: str, looked: Container[str]) -> bool:
        """Whether it was reached from below, past no file of that name; directories are but ways to
        other things."""
        for directory in (self._roots.workspace, *self._directories):
            each = os.path.join(directory, name)
            if each not in looked:
                return False
            if each == path:
                return not os.path.isdir(each)
            if os.path.isfile(each):
                return False
        return False

    def paths(self, name: str) -> list[str]:
        """The paths for which a name stands; a path stands for itself."""
        if not name.startswith(ABOVE):
            return [name]
        if name == CONFIGURATION:
            return files_of_user(self._roots, self._environment)
        return [os.path.join(each, name.removeprefix(ABOVE)) for each in self._directories]

    def state(self, name: str, files: FileDigests) -> str:
        """A name, and which of the directories have such a file. Raises OSError."""
        if name == CONFIGURATION:
            return name + said_by_user(self._roots, self._environment)
        there = ((n, path) for n, path in enumerate(self.paths(name)) if os.path.lexists(path))
        return name + "".join(f" {level}={_what_is(path, files)}" for level, path in there)


def split_state(text: str) -> tuple[str, str] | None:
    """A name and its state; None for the text of another thing."""
    match = _STATE.fullmatch(text)
    return None if match is None else (match[1], match[2])


def _what_is(path: str, files: FileDigests) -> str:
    """A file's hash, or a word, after where a link leads."""
    link = f"link {os.readlink(path)} " if os.path.islink(path) else ""
    if not os.path.isfile(path):
        return f"{link}{'directory' if os.path.isdir(path) else 'nothing'}"
    return link + files.digest(path).hash
