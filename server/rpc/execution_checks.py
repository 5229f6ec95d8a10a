"""Whether an Action and its Command can be run at all; pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.scheduler.matching import STANDARD_NAMES, unknown_names
from server.scheduler.values import Offer, Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionLimits:
    """What an action may ask for. Times in seconds, sizes in bytes."""

    max_timeout: float = 6 * 3600.0
    """A longer Action.timeout is refused (REAPI 2.12 Action.timeout)."""
    default_timeout: float | None = 3600.0
    """Imposed on actions that state none; None leaves them without one."""
    max_message_bytes: int = 32 * 1024 * 1024
    """Of one Action, Command or Directory."""
    max_depth: int = 256
    """Of directories below the input root."""
    max_directories: int = 200_000
    """Distinct ones in one input root."""
    max_inline_bytes: int = 1024 * 1024
    """Of stdout, stderr and output files together in one response."""
    verified_for: float = 30.0
    """How long an input directory found complete is not looked at again."""
    allow_absolute_symlinks: bool = True
    """REAPI 2.12 SymlinkAbsolutePathStrategy, for inputs."""
    node_properties: frozenset[str] = frozenset({"mtime", "unix_mode"})
    """Names that Command.output_node_properties may hold."""
    property_names: frozenset[str] | None = STANDARD_NAMES
    """Platform property names that are known although no worker offers them; None: all."""


def check_command(command: re_pb.Command, limits: ExecutionLimits) -> None:
    """Refuse what no worker could run. Raises InvalidRequest.

    Order is not checked: unsorted lists make another action, not a wrong one.
    """
    if not command.arguments or not command.arguments[0]:
        raise InvalidRequest("the command has no arguments")
    unknown = sorted(set(command.output_node_properties) - limits.node_properties)
    if unknown:
        raise InvalidRequest(f"output node property {unknown[0]!r} is not supported")
    names: set[str] = set()
    for variable in command.environment_variables:
        if not variable.name or "=" in variable.name or "\0" in variable.name + variable.value:
            raise InvalidRequest(f"environment variable {variable.name[:160]!r} cannot be set")
        if variable.name in names:
            raise InvalidRequest(f"environment variable {variable.name[:160]!r} is set twice")
        names.add(variable.name)
    directory = normal_path("", command.working_directory, "working directory")
    for path in command.output_paths or [*command.output_files, *command.output_directories]:
        normal_path(directory, path, "output path")


def normal_path(base: str, path: str, what: str) -> str:
    """`path`, relative to `base`, seen from the input root and without dots (REAPI 2.12 Command).

    Raises InvalidRequest when it begins or ends with a slash or leads out of the input root.
    """
    if path.startswith("/") or path.endswith("/") or "//" in path or "\0" in path:
        raise InvalidRequest(f"{what} {path[:300]!r} is not a relative path without extra slashes")
    segments = base.split("/") if base else []
    for segment in path.split("/") if path else ():
        if segment == "..":
            if not segments:
                raise InvalidRequest(f"{what} {path[:300]!r} leads out of the input root")
            segments.pop()
        elif segment != ".":
            segments.append(segment)
    return "/".join(segments)


def effective_timeout(action: re_pb.Action, limits: ExecutionLimits) -> Duration | None:
    """The timeout that applies: the action's own, else the default. Raises InvalidRequest."""
    own = action.timeout
    if own.seconds < 0 or own.nanos < 0 or own.nanos >= 10**9:
        raise InvalidRequest(f"timeout of {own.seconds} s and {own.nanos} ns is not a duration")
    seconds = own.seconds + own.nanos / 1e9
    if seconds > limits.max_timeout:
        raise InvalidRequest(
            f"timeout of {seconds:.0f} s is longer than the {limits.max_timeout:.0f} s "
            "that this server allows"
        )
    if seconds:
        return own
    if limits.default_timeout is None:
        return None
    imposed = min(limits.default_timeout, limits.max_timeout)
    return Duration(seconds=int(imposed), nanos=int(imposed % 1 * 1e9))


def platform_of(action: re_pb.Action, command: re_pb.Command | None) -> Platform:
    """Action.platform, or Command.platform when the action has none, sorted."""
    if action.HasField("platform") or command is None:
        properties = action.platform.properties
    else:
        properties = command.platform.properties
    return tuple(sorted({(each.name, each.value) for each in properties}))


def check_property_names(
    platform: Platform, offers: Iterable[Offer], limits: ExecutionLimits
) -> None:
    """Refuse property names that mean nothing here (REAPI 2.12 Platform). Raises InvalidRequest.

    Known are the configured names and those that any worker offers; as long as no worker has been
    seen nobody can tell, and everything passes.
    """
    offered = list(offers)
    if limits.property_names is None or not offered:
        return
    unknown = unknown_names(platform, offered, limits.property_names)
    if unknown:
        raise InvalidRequest(
            f"platform property {unknown[0][:160]!r} is not known: no worker offers it"
        )
