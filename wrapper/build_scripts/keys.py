"""The two actions of a build script's run. Pure.

The first names the script and what cargo tells it; what is kept under it is the record of what such
runs depend on. The second names that as well, as it is here and now; what is kept under it is what
the run made. Neither is ever executed: they are names for results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.tree_builder import TreeBuilder
from wrapper.action import BuiltAction
from wrapper.roots import Roots

RECORD = "record"
OUTPUTS = "out"
_KIND = "build-script-run-1"
"""Part of every key: another number, and nothing that was kept before is found."""


def script_action(
    program: Digest, environment: Mapping[str, str], roots: Roots, machine: str
) -> BuiltAction:
    """The action of a script's runs with these variables of cargo's, whatever they read."""
    function = program.function
    command = re_pb.Command(arguments=[_KIND, roots.staged(roots.package) or ""])
    for name, value in sorted(environment.items()):
        command.environment_variables.add(name=name, value=roots.stage_text(value))
    data = command.SerializeToString(deterministic=True)
    tree = TreeBuilder(function)
    tree.add_file("build-script", program, executable=True)
    made: dict[Digest, bytes] = {}
    root = tree.build(made)
    action = re_pb.Action(
        command_digest=Digest.of(data, function).to_message(), input_root_digest=root.to_message()
    )
    action.platform.properties.add(name="Arch", value=machine)
    action.platform.properties.add(name="OSFamily", value="linux")
    blobs: dict[Digest, bytes | str] = {Digest.of(data, function): data, **made}
    return _built(action, blobs, function)


def run_action(
    script: BuiltAction, reads: Iterable[str], environment: Mapping[str, str], roots: Roots
) -> BuiltAction:
    """The action of a run that depends on these values of paths and the user's variables."""
    data = script.blobs[script.digest]
    assert isinstance(data, bytes)
    message = re_pb.Action.FromString(data)
    lines = [*reads, *(f"{n}={roots.stage_text(v)}" for n, v in sorted(environment.items()))]
    text = "\0".join(lines).encode("utf-8", "surrogateescape")
    message.salt = hashlib.sha256(text).digest()
    blobs = {digest: blob for digest, blob in script.blobs.items() if digest != script.digest}
    return _built(message, blobs, script.digest.function)


def _built(
    action: re_pb.Action, blobs: Mapping[Digest, bytes | str], function: DigestFunction
) -> BuiltAction:
    data = action.SerializeToString(deterministic=True)
    digest = Digest.of(data, function)
    return BuiltAction(
        digest=digest, required_names=(), blobs={**blobs, digest: data}, is_for_workers=False
    )
