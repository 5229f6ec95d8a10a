"""Notes: what is known beside results, kept as if it were one.

An action that is never executed names a note, and the ActionResult under it has one file, the note.
So every REAPI server can keep it, share it and forget it as any result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.tree_builder import TreeBuilder
from wrapper.action import BuiltAction, command_of
from wrapper.fetching import fetch_blobs
from wrapper.inputs.snapshot import Source
from wrapper.local_tier import LocalTier, named_blobs
from wrapper.remote import Remote

_NAME = "note"


def naming_action(
    command: re_pb.Command,
    files: Mapping[str, tuple[Digest, bool]],
    function: DigestFunction,
    platform: Mapping[str, str] = MappingProxyType({}),
) -> BuiltAction:
    """An action that is a name for something. Pure.

    `files` are its input root's, by name: a digest, and whether it is a program.
    """
    tree = TreeBuilder(function)
    for name, (digest, is_program) in files.items():
        tree.add_file(name, digest, executable=is_program)
    made: dict[Digest, bytes] = {}
    root = tree.build(made)
    data = command.SerializeToString(deterministic=True)
    action = re_pb.Action(
        command_digest=Digest.of(data, function).to_message(), input_root_digest=root.to_message()
    )
    for name, value in sorted(platform.items()):
        action.platform.properties.add(name=name, value=value)
    return named_by(action, {Digest.of(data, function): data, **made}, function)


def named_by(
    action: re_pb.Action, blobs: Mapping[Digest, Source], function: DigestFunction
) -> BuiltAction:
    """The same of the message, with the blobs that it names."""
    data = action.SerializeToString(deterministic=True)
    digest = Digest.of(data, function)
    return BuiltAction(
        digest=digest, required_names=(), blobs={**blobs, digest: data}, is_for_workers=False
    )


@dataclass(frozen=True, slots=True)
class Notes:
    """Notes in the local tier and on servers. One a daemon."""

    local: LocalTier

    async def here(self, action: BuiltAction, instance: str) -> bytes | None:
        """What was noted on this machine."""
        return await self._read(await self.local.lookup(instance, action.digest), action)

    async def there(self, action: BuiltAction, remote: Remote) -> bytes | None:
        """What a server has. Raises DistbuildError."""
        result = await remote.lookup(action.digest)
        if result is None or result.exit_code != 0:
            return None
        await fetch_blobs(self.local, remote, named_blobs(result, action.digest.function))
        return await self._read(result, action)

    async def _read(self, result: re_pb.ActionResult | None, action: BuiltAction) -> bytes | None:
        if result is None or len(result.output_files) != 1:
            return None
        message = result.output_files[0].digest
        return await self.local.read(Digest.from_message(message, action.digest.function))

    async def keep(self, action: BuiltAction, data: bytes, instance: str) -> None:
        """Note something here. Raises DistbuildError."""
        digest, result = _result(action, data)
        await self.local.store(digest, data)
        await self.local.keep(instance, action.digest, result)


async def publish_note(action: BuiltAction, data: bytes, remote: Remote) -> bool:
    """Have a server take a note; whether it did. Raises DistbuildError."""
    digest, result = _result(action, data)
    return await remote.publish(action.digest, {digest: data, **command_of(action)}, result)


def _result(action: BuiltAction, data: bytes) -> tuple[Digest, re_pb.ActionResult]:
    digest = Digest.of(data, action.digest.function)
    result = re_pb.ActionResult()
    result.output_files.add(path=_NAME, digest=digest.to_message())
    return digest, result
