"""The two actions of a build script's run. Pure.

The first names the script and what cargo tells it; what is kept under it is the record of what such
runs depend on. The second names that as well, as it is here and now, in a file beside the script;
what is kept under it is what the run made. Neither is ever executed: they are names for results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.notes import named_by, naming_action
from wrapper.roots import Roots

OUTPUTS = "out"
KIND = "build-script-run-5"
"""Part of every key: another number, and nothing that was kept before is found."""

PROGRAM = "build-script"
DEPENDS_ON = "depends-on"
"""The files in a key's input root."""

Value = tuple[tuple[str, str], ...]
"""What a name stands for: a word for each of its paths (names.py) where something is, and what."""

NONE = "none"
LISTING = "names "
"""Begins what a directory is that was listed: names follow, each after one character for its kind,
with `/` between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DependsOn:
    """What a run depends on beside its script and cargo's variables: `reads` are kinds and names
    (reads.py) with their values; `variables` the user's with staged paths, of which those count
    that `declared` and `reach` (environment.py) say."""

    reads: tuple[tuple[str, str, Value], ...]
    variables: Mapping[str, str]
    declared: tuple[str, ...] = ()
    reach: str = ""

    def dump(self) -> bytes:
        """As a file's bytes, the same for the same."""
        rows = (self.reads, sorted(self.variables.items()), sorted(self.declared), self.reach)
        return json.dumps(rows, separators=(",", ":")).encode()

    @classmethod
    def load(cls, data: bytes) -> DependsOn:
        """What `dump` has written."""
        reads, variables, declared, reach = json.loads(data)
        return cls(
            reads=tuple((k, name, tuple(map(tuple, value))) for k, name, value in reads),
            variables=dict(variables), declared=tuple(declared), reach=reach,
        )  # fmt: skip


def script_action(
    program: Digest, environment: Mapping[str, str], roots: Roots, machine: str
) -> BuiltAction:
    """The action of a script's runs with these variables of cargo's, whatever they read."""
    command = re_pb.Command(arguments=[KIND, roots.staged(roots.package) or ""])
    for name, value in sorted(environment.items()):
        command.environment_variables.add(name=name, value=roots.stage_text(value))
    platform = {"Arch": machine, "OSFamily": "linux"}
    return naming_action(command, {PROGRAM: (program, True)}, program.function, platform)


def run_action(script: BuiltAction, depends_on: DependsOn) -> BuiltAction:
    """The action of a run of the script that depends on these values too."""
    function, data = script.digest.function, depends_on.dump()
    message = re_pb.Action.FromString(_bytes(script, script.digest))
    before = Digest.from_message(message.input_root_digest, function)
    root = re_pb.Directory.FromString(_bytes(script, before))
    root.files.add(name=DEPENDS_ON, digest=Digest.of(data, function).to_message())
    made = root.SerializeToString(deterministic=True)
    message.input_root_digest.CopyFrom(Digest.of(made, function).to_message())
    blobs = {d: blob for d, blob in script.blobs.items() if d not in (script.digest, before)}
    blobs |= {Digest.of(data, function): data, Digest.of(made, function): made}
    return named_by(message, blobs, function)


def _bytes(action: BuiltAction, digest: Digest) -> bytes:
    data = action.blobs[digest]
    assert isinstance(data, bytes)
    return data
