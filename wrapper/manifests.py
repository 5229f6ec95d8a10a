"""What a build of a workspace takes from the cache, fetched ahead of being asked for.

A build leaves its units' keys on the server under a key of its own: the lock file, cargo's command
line and the compiler. Whoever begins the same build anywhere gets results and blobs in a few large
pieces while cargo is still thinking. The manifest only says what to fetch; each unit is looked up
under its own key all the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.fetching import Budget, fetch_blobs
from wrapper.local_tier import LocalTier, named_blobs
from wrapper.notes import Notes, naming_action, publish_note
from wrapper.remote import Remote

_KIND = "build-manifest-1"
_MAX_UNITS = 20_000
_GROUP = 4
_BYTES_AT_A_TIME = 16 << 20
_LOG = logging.getLogger("distbuild.manifests")


def manifest_action(
    lock: bytes, arguments: Sequence[str], compiler: str, function: DigestFunction
) -> BuiltAction:
    """The key of a build's manifest. Pure."""
    command = re_pb.Command(arguments=[_KIND, compiler, *arguments])
    files = {"Cargo.lock": (Digest.of(lock, function), False)}
    return naming_action(command, files, function)


@dataclass(slots=True, kw_only=True)
class Manifest:
    """The keys of a build's units by the units' names, in the order in which they were needed."""

    action: BuiltAction
    units: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)

    def note(self, unit: str, key: Digest) -> None:
        """A unit was, or was to be, found under this key."""
        self.units[unit] = key.resource

    def merged(self) -> dict[str, str]:
        """What the server had, with what this build knows better."""
        merged = {**self.known, **self.units}
        return dict(list(merged.items())[-_MAX_UNITS:])

    @property
    def tells_more(self) -> bool:
        """Whether the server should have it."""
        return self.merged() != self.known


async def fetch_ahead(manifest: Manifest, remote: Remote, local: LocalTier) -> None:
    """Fetch all that a manifest on the server names. Raises DistbuildError."""
    data = await Notes(local).there(manifest.action, remote)
    if data is None:
        return
    function = manifest.action.digest.function
    manifest.known = _load(data, function)
    keys = [Digest.of_resource(text, function) for text in manifest.known.values()]
    remote.look_ahead(keys)
    budget = Budget(_BYTES_AT_A_TIME)

    async def fetch(blobs: Collection[Digest]) -> None:
        async with budget.room_for(sum(digest.size for digest in blobs)):
            await fetch_blobs(local, remote, blobs)

    async with asyncio.TaskGroup() as tasks:
        for at in range(0, len(keys), _GROUP):
            lookups = (remote.lookup(key) for key in keys[at : at + _GROUP])
            results = await asyncio.gather(*lookups)
            blobs = {b for r in results if r is not None for b in named_blobs(r, function)}
            tasks.create_task(fetch(blobs))


async def publish_manifest(manifest: Manifest, remote: Remote) -> None:
    """Let others have it. Raises DistbuildError."""
    manifest.known = manifest.merged()
    await publish_note(manifest.action, json.dumps(manifest.known).encode(), remote)


def _load(data: bytes, function: DigestFunction) -> dict[str, str]:
    try:
        units = json.loads(data)
        if not isinstance(units, Mapping):
            raise ValueError("it is no object")
        return {str(unit): _checked(key, function) for unit, key in units.items()}
    except ValueError as error:
        _LOG.info("the server's manifest of this build is none: %s", error)
        return {}


def _checked(text: object, function: DigestFunction) -> str:
    """Raises ValueError when it is no digest."""
    try:
        return Digest.of_resource(str(text), function).resource
    except DistbuildError as error:
        raise ValueError(str(error)) from None
