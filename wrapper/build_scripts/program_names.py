"""Names for programs of build scripts in which paths stand by `env!`, as CARGO_MANIFEST_DIR does,
in the script itself or in what it depends on, such as lua-src.

Everybody's is another program then, and no key of its runs would be found elsewhere. By the key of
its compile, in which such paths have everybody's names, it is the same one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.dep_info import environment_read, files_read
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.inputs import Inputs
from wrapper.inputs.macros import artifacts
from wrapper.inputs.moved_units import made_of
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.unit_records import UnitRecord
from wrapper.notes import Notes, naming_action
from wrapper.result_checks import Unit
from wrapper.roots import Roots
from wrapper.whose import file_holds, names_checkout, paths_of_checkout, real_paths

_KIND = "program-name-1"
_COMPILED = (".rlib", ".rmeta")


def named_by_keys(
    closure: Mapping[str, UnitRecord], files: FileDigests, roots: Roots
) -> dict[str, Digest]:
    """The artifacts of dependencies from registries in which the user's paths, and none of the
    checkout, stand by `env!`, by their paths: what stands for each is the key of its compile, in
    which these have everybody's names. Raises OSError."""
    found: dict[str, Digest] = {}
    for stem, record in closure.items():
        is_known = record.key != "" and is_published(record.package)
        if is_known and _holds_users_path(stem, roots) and record.made == made_of(stem, files):
            digest = Digest.of(record.key.encode(), files.function)
            made = artifacts(stem, None, with_code=True)
            found |= {path: digest for path in made if path.endswith(_COMPILED)}
    return found


def _holds_users_path(stem: str, roots: Roots) -> bool:
    """Whether a dependency says, by dep-info, that it does so."""
    try:
        with open(f"{stem}.d", "rb") as file:
            dep_info = file.read()
    except FileNotFoundError:
        return False
    values = [value or "" for value in environment_read(dep_info).values()]
    if not any(map(roots.staged, values)) or any(names_checkout(each, roots) for each in values):
        return False
    artifact = next(artifacts(stem, None, with_code=True))
    sources = (os.path.join(roots.workspace, name) for name in files_read(dep_info))
    return not file_holds(artifact, paths_of_checkout(roots)) and not any(
        file_holds(source, real_paths(roots)) for source in sources
    )


def needs_name(unit: Unit, inputs: Inputs, dep_info: bytes, named: Collection[str]) -> bool:
    """Whether a build script's program holds paths by `env!`, its own or `named` dependencies', and
    by nothing else: none of what it was made of has one. Raises OSError."""
    if unit.keeps_paths or inputs.has_macros:
        return False
    read = [value or "" for value in environment_read(dep_info).values()]
    if not named and not any(unit.roots.staged(value) for value in read):
        return False
    paths = real_paths(unit.roots)
    compiled = [
        source
        for source in inputs.blobs.values()
        if isinstance(source, str) and source.endswith(_COMPILED) and source not in named
    ]
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
