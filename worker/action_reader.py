"""Reading what an action asks for."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from remote_apis.client.cas import CasClient
from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.assignment import Assignment
from worker.command import CommandSpec, parse_command
from worker.directories import DirectoryReader
from worker.platform import PlatformWishes, parse_platform
from worker.remembered import Remembered

_MAX_COMMAND_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAction:
    """An Action, its Command, and what both wish for."""

    action: re_pb.Action
    command: CommandSpec
    wishes: PlatformWishes
    input_root: Digest


class ActionReader:
    """Reads Actions and Commands; shared by all slots of a worker.

    Commands are remembered: a changed source file is compiled again by the same one. What is new
    of Command and topmost Directory is read in one call.
    """

    def __init__(self, directories: DirectoryReader) -> None:
        self._directories = directories
        self._commands: Remembered[re_pb.Command] = Remembered(max_bytes=_MAX_COMMAND_BYTES)

    async def read(self, assignment: Assignment, cas: CasClient) -> ReadAction:
        """Everything but the input root. Raises MissingBlobs, InvalidRequest."""
        try:
            action = assignment.action
            if action is None:
                content = await cas.read_many([assignment.action_digest])
                action = re_pb.Action.FromString(content[assignment.action_digest])
            root = assignment.digest_of(action.input_root_digest)
            command = await self._command(assignment.digest_of(action.command_digest), root, cas)
        except DecodeError as error:
            raise InvalidRequest(f"the action or its command cannot be decoded: {error}") from error
        return ReadAction(
            action=action,
            command=parse_command(command),
            wishes=parse_platform(action, command),
            input_root=root,
        )

    async def _command(self, digest: Digest, root: Digest, cas: CasClient) -> re_pb.Command:
        command = self._commands.get(digest)
        if command is None:
            wanted = {digest} if root in self._directories else {digest, root}
            content = await cas.read_many(wanted)
            command = re_pb.Command.FromString(content[digest])
            self._commands.put(digest, command)
            if root in wanted:
                self._directories.learn(root, content[root])
        return command
