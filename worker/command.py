"""What a Command message asks for, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.paths import join_inside

NODE_PROPERTIES = frozenset({"mtime", "unix_mode"})
"""Names that Command.output_node_properties may hold."""


class OutputKind(Enum):
    """What a declared output may be."""

    ANY = "output path"
    FILE = "output file"
    DIRECTORY = "output directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredOutput:
    """An output: `path` as declared, and `inside`, the same below the input root."""

    path: str
    inside: str
    kind: OutputKind


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """A Command (REAPI 2.12): `working_directory` is relative to the input root."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    working_directory: str
    outputs: tuple[DeclaredOutput, ...]
    output_node_properties: frozenset[str]
    wants_tree: bool
    wants_directory: bool


def parse_command(message: re_pb.Command) -> CommandSpec:
    """Check and convert a Command. Raises InvalidRequest, saying what is wrong."""
    if not message.arguments or not message.arguments[0]:
        raise InvalidRequest("the command has no arguments")
    if any("\0" in argument for argument in message.arguments):
        raise InvalidRequest("an argument of the command contains a NUL")
    unknown = sorted(set(message.output_node_properties) - NODE_PROPERTIES)
    if unknown:
        raise InvalidRequest(f"output node property {unknown[0]!r} is not supported")
    working_directory = join_inside("", message.working_directory, "working directory")
    form = message.output_directory_format
    return CommandSpec(
        arguments=tuple(message.arguments),
        environment=_environment(message),
        working_directory=working_directory,
        outputs=tuple(_outputs(message, working_directory)),
        output_node_properties=frozenset(message.output_node_properties),
        # A form that is not known is answered as the oldest one (REAPI 2.12 OutputDirectoryFormat).
        wants_tree=form != re_pb.Command.DIRECTORY_ONLY,
        wants_directory=form in (re_pb.Command.DIRECTORY_ONLY, re_pb.Command.TREE_AND_DIRECTORY),
    )


def _environment(message: re_pb.Command) -> dict[str, str]:
    environment: dict[str, str] = {}
    for variable in message.environment_variables:
        name = variable.name
        if not name or "=" in name or "\0" in name or "\0" in variable.value:
            raise InvalidRequest(f"environment variable {name[:300]!r} cannot be set")
        if name in environment:
            raise InvalidRequest(f"environment variable {name!r} is set twice")
        environment[name] = variable.value
    return environment


def _outputs(message: re_pb.Command, working_directory: str) -> list[DeclaredOutput]:
    declared: list[tuple[Sequence[str], OutputKind]]
    if message.output_paths:
        declared = [(message.output_paths, OutputKind.ANY)]
    else:
        declared = [
            (message.output_files, OutputKind.FILE),
            (message.output_directories, OutputKind.DIRECTORY),
        ]
    outputs = {}
    for paths, kind in declared:
        for path in paths:
            inside = join_inside(working_directory, path, kind.value)
            outputs[path, kind] = DeclaredOutput(path=path, inside=inside, kind=kind)
    return list(outputs.values())
