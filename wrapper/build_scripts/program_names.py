"""Names for programs of build scripts in which paths stand by `env!`, as CARGO_MANIFEST_DIR does.

Everybody's is another program then, and no key of its runs would be found elsewhere. By the key of
its compile, in which such paths have everybody's names, it is the same one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.dep_info import environment_read, files_read
from wrapper.inputs.inputs import Inputs
from wrapper.notes import Notes, naming_action
from wrapper.result_checks import Unit
from wrapper.whose import file_holds, real_paths

_KIND = "program-name-1"
_COMPILED = (".rlib", ".rmeta")


def needs_name(unit: Unit, inputs: Inputs, dep_info: bytes) -> bool:
    """Whether a build script's program holds paths by `env!`, and by nothing else: none of what it
    was made of has one. Raises OSError."""
    if unit.keeps_paths or inputs.has_macros:
        return False
    read = [value or "" for value in environment_read(dep_info).values()]
    if not any(unit.roots.staged(value) for value in read):
        return False
    paths = real_paths(unit.roots)
    compiled = [s for s in inputs.blobs.values() if isinstance(s, str) and s.endswith(_COMPILED)]
    sources = (os.path.join(unit.roots.workspace, name) for name in files_read(dep_info))
    return not any(file_holds(path, paths) for path in (*sources, *compiled))


@dataclass(frozen=True, slots=True)
class ProgramNames:
    """Names of programs on this machine."""

    notes: Notes

    async def note(self, program: Digest, key: Digest, instance: str) -> None:
        """A program was made by a compile with this key. Raises DistbuildError."""
        await self.notes.keep(_note_of(program), key.resource.encode(), instance)

    async def of(self, program: Digest, instance: str) -> Digest | None:
        """The key that is a program's name, if it has one."""
        data = await self.notes.here(_note_of(program), instance)
        if data is None:
            return None
        try:
            return Digest.of_resource(data.decode(errors="replace"), program.function)
        except (ValueError, DistbuildError):
            return None


def _note_of(program: Digest) -> BuiltAction:
    command = re_pb.Command(arguments=[_KIND])
    return naming_action(command, {"program": (program, True)}, program.function)
