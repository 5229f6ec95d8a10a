"""Build the REAPI Action of a compile. Pure: the same inputs give the same action digest.

The digest is the cache key, so nothing of this checkout, user or machine may enter: no working
directory, home, or terminal. What is in it: the runner script (options and environment with
staged paths), every input file, the output paths and the platform.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from remote_apis import early_outputs, link_set
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.tree_builder import TreeBuilder
from wrapper.inputs.inputs import Inputs, is_of_system, staged_or_refuse
from wrapper.inputs.snapshot import Source
from wrapper.roots import OUTPUTS, ROOT, ROOT_DIRECTORY, Roots
from wrapper.rustc.arguments import Invocation, NotUnderstood, Option
from wrapper.rustc.outputs import early_names, output_names
from wrapper.sandbox import PATH
from wrapper.script import runner_script


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltAction:
    """An Action with every blob that it needs: `digest` names it, `blobs` says where each is.

    `required_names` are the outputs without which a result is none. `is_for_workers`: it may be
    executed; others are the keys of compiles that read of this machine what no input root holds.
    """

    digest: Digest
    required_names: tuple[str, ...]
    blobs: dict[Digest, Source]
    is_for_workers: bool = True


def build_action(
    *,
    invocation: Invocation,
    roots: Roots,
    environment: Mapping[str, str],
    inputs: Inputs,
    platform: Mapping[str, str],
    qualifiers: Mapping[str, str] = MappingProxyType({}),
    absent: Iterable[str] = (),
) -> BuiltAction:
    """The Action of a compile. Raises NotUnderstood when a path has no shared name.

    `absent`: what counts by not being there.
    """
    function, blobs = inputs.function, dict(inputs.blobs)
    root = _input_root(inputs, _script(invocation, roots, environment, absent), blobs)
    names = output_names(invocation)
    command = _command(names, early_names(invocation))
    action = re_pb.Action(
        command_digest=_add(blobs, command, function).to_message(),
        input_root_digest=root.to_message(),
        salt=_salt(sorted(qualifiers.items())),
    )
    for name, value in sorted(platform.items()):
        action.platform.properties.add(name=name, value=value)
    digest = _add(blobs, action.SerializeToString(deterministic=True), function)
    required = tuple(name for name in names if not name.endswith(".dwp"))
    return BuiltAction(
        digest=digest, required_names=required, blobs=blobs, is_for_workers=not qualifiers
    )


def _input_root(inputs: Inputs, script: bytes, blobs: dict[Digest, Source]) -> Digest:
    """The input root with the runner script; what it is made of is added to the blobs."""
    tree = TreeBuilder(inputs.function)
    for path, digest in inputs.directories.items():
        _add_unless_inside(tree, path, digest, inputs)
    for path, digest in inputs.files.items():
        if not _is_inside(path, inputs):
            tree.add_file(f"{ROOT_DIRECTORY}/{path}", digest)
    run = _add(blobs, script, inputs.function)
    tree.add_file(f"{ROOT_DIRECTORY}/run.sh", run, executable=True)
    made: dict[Digest, bytes] = {}
    root = tree.build(made)
    blobs.update(made)
    return root


def _command(names: Iterable[str], early: Iterable[str]) -> bytes:
    command = re_pb.Command(
        arguments=["/bin/sh", "./run.sh"],
        output_paths=[f"{OUTPUTS}/{name}" for name in names],
        working_directory=ROOT_DIRECTORY,
    )
    if value := " ".join(f"{OUTPUTS}/{name}" for name in early):
        command.environment_variables.add(name=early_outputs.VARIABLE, value=value)
    command.environment_variables.add(name="PATH", value=PATH)
    return command.SerializeToString(deterministic=True)


def of_paths(action: BuiltAction, roots: Roots) -> BuiltAction:
    """The action whose result holds for this checkout's own paths alone.

    Never executed: it is the key under which a compile made here is kept. The paths are its salt.
    """
    message = re_pb.Action.FromString(_bytes(action.blobs[action.digest]))
    message.salt += b"\0\0" + _salt([(place.staged, place.real) for place in roots.places])
    blobs = {digest: blob for digest, blob in action.blobs.items() if digest != action.digest}
    data = message.SerializeToString(deterministic=True)
    digest = Digest.of(data, action.digest.function)
    return replace(action, digest=digest, blobs={**blobs, digest: data}, is_for_workers=False)


def _salt(values: Iterable[tuple[str, str]]) -> bytes:
    return "\0".join(f"{name}={value}" for name, value in values).encode("utf-8", "surrogateescape")


def command_of(action: BuiltAction) -> dict[Digest, bytes]:
    """The Action and its Command: what a server wants to have beside a result."""
    data = _bytes(action.blobs[action.digest])
    message = re_pb.Action.FromString(data).command_digest
    command = Digest.from_message(message, action.digest.function)
    return {action.digest: data, command: _bytes(action.blobs[command])}


def early_digest(action: BuiltAction) -> Digest:
    """The key under which the action's early outputs are while it runs."""
    message = re_pb.Action.FromString(_bytes(action.blobs[action.digest]))
    return Digest.of(early_outputs.early_action(message, action.digest), action.digest.function)


def platform_key(action: BuiltAction) -> bytes:
    """What the action asks of a worker, as one value."""
    message = re_pb.Action.FromString(_bytes(action.blobs[action.digest]))
    return message.platform.SerializeToString(deterministic=True)


def _bytes(source: Source) -> bytes:
    assert isinstance(source, bytes)
    return source


def platform_of(invocation: Invocation, machine: str, set_digest: str | None) -> dict[str, str]:
    """The properties that a worker must have. Raises NotUnderstood for a link without a linker."""
    platform = {"Arch": machine, "OSFamily": "linux"}
    if invocation.links_with_system:
        if set_digest is None:
            raise NotUnderstood("this machine has no working C compiler to compare linkers by")
        platform[link_set.PROPERTY] = set_digest
    return platform


def _add(blobs: dict[Digest, Source], data: bytes, function: DigestFunction) -> Digest:
    digest = Digest.of(data, function)
    blobs[digest] = data
    return digest


def _is_inside(path: str, inputs: Inputs) -> bool:
    return any(path.startswith(directory + "/") for directory in inputs.directories)


def _add_unless_inside(tree: TreeBuilder, path: str, digest: Digest, inputs: Inputs) -> None:
    if not _is_inside(path, inputs):
        tree.add_directory(f"{ROOT_DIRECTORY}/{path}", digest)


def _script(
    invocation: Invocation, roots: Roots, environment: Mapping[str, str], absent: Iterable[str]
) -> bytes:
    staged = {"PATH": PATH}
    staged |= {name: roots.stage_text(value) for name, value in environment.items()}
    driver = f"{ROOT}/toolchain/bin/{os.path.basename(invocation.driver)}"
    command = [driver]
    for option in invocation.options:
        command += _staged_option(option, roots)
    command += roots.remap_options(staged=True)
    return runner_script(
        directory=f"{ROOT}/{roots.staged(roots.workspace)}",
        environment=staged,
        command=command,
        absent=absent,
    )


def _staged_option(option: Option, roots: Roots) -> list[str]:
    name, value = option
    if value is None:
        return [name]
    if name == "":
        return [f"{ROOT}/{staged_or_refuse(roots, value)}" if os.path.isabs(value) else value]
    if name == "--out-dir":
        value = f"{ROOT}/{OUTPUTS}"
    elif name in ("--extern", "-L"):
        head, equals, path = value.partition("=")
        if name == "-L" and not os.path.isabs(path or value):
            return [name, value]  # from the workspace's root, there too
        if name == "-L" and is_of_system(path or value, roots):
            return [name, value]
        if equals:
            value = f"{head}={ROOT}/{staged_or_refuse(roots, path)}"
        elif name == "-L":
            value = f"{ROOT}/{staged_or_refuse(roots, value)}"
    elif roots.stage_text(value) != value:
        value = roots.stage_text(value)
    return [name, value]
