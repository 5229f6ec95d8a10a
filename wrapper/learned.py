"""What compiles turned out to read beside what every key has, and how others come to know it.

A key has to name it, and whoever compiles the unit for the first time in a place does not know it
yet. So it is noted under the unit's key without it: the same for all who do the same work.
"""

from __future__ import annotations

import json
import logging
import os

from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.build_scripts.names import ABOVE
from wrapper.inputs.unit_records import Learned
from wrapper.notes import Notes, naming_action
from wrapper.remote import Remote
from wrapper.roots import Roots

_KIND = "unit-reads-3"
_LOG = logging.getLogger("distbuild.learned")


async def find_learned(
    notes: Notes, base: BuiltAction, roots: Roots, remote: Remote | None, instance: str
) -> Learned | None:
    """What compiles of a unit turned out to read; `base` is its key without that."""
    action = note_name(base)
    try:
        note = await notes.here(action, instance)
        if note is None and remote is not None:
            note = await notes.there(action, remote)
            if note is not None:
                await notes.keep(action, note, instance)
        return _load(note, roots) if note is not None else None
    except (DistbuildError, TypeError, ValueError) as error:
        _LOG.info("what others learned of a unit is not known: %s", error)
        return None


def note_of(base: BuiltAction, learned: Learned, roots: Roots) -> tuple[BuiltAction, bytes]:
    """The note, and its name."""
    return note_name(base), _dump(learned, roots)


def note_name(base: BuiltAction) -> BuiltAction:
    """The action under which the note is."""
    command = re_pb.Command(arguments=[_KIND, base.digest.resource])
    return naming_action(command, {}, base.digest.function)


def _dump(learned: Learned, roots: Roots) -> bytes:
    """For other places; files that have no name there are left out."""
    names = (path if path.startswith(ABOVE) else roots.staged(path) for path in learned.files)
    files = [name for name in names if name is not None]
    said = (learned.variables, files, learned.asked, learned.libraries)
    return json.dumps([sorted(each) for each in said]).encode()


def _load(note: bytes, roots: Roots) -> Learned:
    """What `_dump` wrote, for this place. Raises TypeError or ValueError for anything else."""
    variables, names, asked, libraries = json.loads(note)
    if not all(isinstance(each, str) for each in (*variables, *names, *asked, *libraries)):
        raise ValueError("it names something else than variables, files and libraries")
    files = []
    for name in names:
        is_upwards = name.startswith(ABOVE) and "/" not in name
        path = name if is_upwards else roots.real(name)
        if path is None or os.path.normpath(path) != path.removesuffix("/"):
            raise ValueError(f"it names {name}, which is no input's place")
        files.append(path)
    return Learned(
        frozenset(variables), tuple(sorted(files)), frozenset(asked), frozenset(libraries)
    )
