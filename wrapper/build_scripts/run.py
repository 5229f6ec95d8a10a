"""One run of a build script, and its keys."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from remote_apis.digest import Digest
from wrapper.action import BuiltAction
from wrapper.build_scripts.accesses import Seen
from wrapper.build_scripts.environment import users_variables
from wrapper.build_scripts.keys import DependsOn, run_action
from wrapper.build_scripts.names import Names, above, is_below
from wrapper.build_scripts.reads import Record, Values
from wrapper.recorded import NotKept
from wrapper.roots import Roots

_CARGO_LOADS = ("target", "toolchain")
_TELL_USER = {"id", "whoami", "logname", "groups"}
"""Programs that ask the kernel, or the user database, who runs them."""

_MAKES = {"make", "gmake"}
_HOW_TO_WORK = re.compile(
    r"[ijklnOpqstvw]+|-[jlO].*|--(?:jobserver|output-sync|no-print-dir|shuffle).*"
)
"""Words of MAKEFLAGS that do not say what is to be made."""

_MACROS = re.compile(r"lib.+-[0-9a-f]{16}\.so")
"""Libraries that rustc alone loads."""


class NotWorthKeeping(NotKept):
    """It costs more to keep than to make again, which needs no watching then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as cargo asked for it: the script's program, its places, its environment and the mode
    bits that its files do not get, where they are known; `name` is what the program is called in
    keys, where not by its digest (program_names.py)."""

    program: str
    roots: Roots
    environment: Mapping[str, str]
    umask: int | None = None
    name: Digest | None = None

    @property
    def out_dir(self) -> str:
        """OUT_DIR."""
        return self.environment["OUT_DIR"]

    @property
    def looked_in_first(self) -> list[str]:
        """Where cargo has programs look for libraries before the toolchain's: where it puts what it
        builds, which may lie anywhere."""
        own = [os.path.realpath(p.real) for p in self.roots.places if p.staged == "toolchain"]
        searched = self.environment.get("LD_LIBRARY_PATH", "").split(":")
        for count, directory in enumerate(searched):
            if directory and is_below(os.path.realpath(directory), own):
                return searched[:count]
        return []

    @property
    def names(self) -> Names:
        """Names of paths in this run."""
        return Names(self.roots, self.environment.get("PATH", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A run that has ended here with success, and what OUT_DIR held then (`outputs.stamps`).
    `started`: seconds since the epoch; `accesses`: how many were noted while it ran."""

    run: Run
    seen: Seen
    made: Mapping[str, tuple[int, int, int]]
    stdout: bytes
    stderr: bytes
    started: float
    seconds: float
    accesses: int


def key_of(run: Run, script: BuiltAction, record: Record, values: Values) -> BuiltAction:
    """The key of a run with what its record names as it is now. Blocks.

    Raises NotNameable and OSError.
    """
    reads = values.of(record.paths, run.names)
    variables = run_variables(run, record)
    depends_on = DependsOn(
        reads=tuple(reads),
        variables={name: run.roots.stage_text(value) for name, value in variables.items()},
        declared=tuple(record.variables),
        reach=record.reach,
    )
    return run_action(script, depends_on)


def run_variables(run: Run, record: Record) -> dict[str, str]:
    """The user's variables that runs with this record depend on."""
    found = users_variables(
        run.environment, tokens=record.tokens, named=record.variables, reach=record.reach
    )
    programs = {os.path.basename(name) for _, name in record.paths}
    if programs & _MAKES and (told := _told_make(run.environment)):
        found["what make is told"] = told
    if programs & _TELL_USER:
        found["the user"] = f"{os.geteuid()} {sorted(os.getgroups())} {_name_of_user()}"
    if not record.reach.startswith("none"):
        # cargo puts its own directories before the user's
        places = [place.real for place in run.roots.places if place.staged in _CARGO_LOADS]
        searched = run.environment.get("LD_LIBRARY_PATH", "").split(":")
        searched = searched[len(run.looked_in_first) :]
        others = (each for each in searched if each and not is_below(each, places))
        own = [each for each in others if not _is_of_cargo(each)]
        found |= {"LD_LIBRARY_PATH": ":".join(own)} if own else {}
    return found


def _is_of_cargo(directory: str) -> bool:
    """Whether a directory is in a target directory, of the cargo by which a test was started that
    starts one, and has no library that a program may be loaded with: macros have hashes in their
    names, for which none asks. Blocks."""
    above_it = islice(above(directory), 3)  # target/TRIPLE/debug/deps
    if not any(os.path.isfile(f"{each}/CACHEDIR.TAG") for each in above_it):
        return False
    with suppress(OSError):
        names = os.listdir(directory)
        return all(".so" not in name or _MACROS.fullmatch(name) for name in names)
    return True


def _told_make(environment: Mapping[str, str]) -> str:
    """What make hears from one that cargo was started by: that there is one, and variables."""
    words = environment.get("MAKEFLAGS", "").split()
    told = [word for word in words if not _HOW_TO_WORK.fullmatch(word) and word != "--"]
    is_within = environment.get("MAKELEVEL", "0") not in ("", "0")
    return " ".join([*(["within"] if is_within else []), *told])


def _name_of_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
