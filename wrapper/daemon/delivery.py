"""A result that others have made, put into the target directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path

from remote_apis.digest import Digest
from wrapper.build_scripts.launcher import install_launchers
from wrapper.daemon.parts import Keyed, Parts
from wrapper.daemon.protocol import Call, Reply
from wrapper.daemon.tally import build_of
from wrapper.dep_info import rewrite_messages
from wrapper.found import Result
from wrapper.here import METADATA
from wrapper.inputs.moved_units import made_of
from wrapper.materialise import place_outputs
from wrapper.result_checks import Unit
from wrapper.roots import OUTPUTS
from wrapper.rustc.outputs import dep_info_name, may_be_linked, metadata_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Early:
    """Metadata that cargo has already, and what of rustc's messages was said with it."""

    digest: Digest
    said: bytes

    def rest_of(self, stderr: bytes) -> bytes:
        """The messages that were not said yet; cargo must hear of the metadata once."""
        if stderr.startswith(self.said):
            return stderr[len(self.said) :]
        lines = stderr.splitlines(keepends=True)
        return b"".join(line for line in lines if METADATA not in line)


@dataclass(slots=True, kw_only=True)
class Delivery:
    """Puts the result of one call where cargo expects it; `early` is what it has of it already."""

    parts: Parts
    keyed: Keyed
    call: Call
    reply: Reply
    early: Early | None = None

    async def begin(self, unit: Unit, result: Result) -> None:
        """Have cargo start the dependents: the metadata is all that they need."""
        head, mark, _ = result.stderr.partition(METADATA)
        if self.early is not None or not mark:
            return
        said = head + mark + result.stderr[len(head + mark) :].partition(b"\n")[0] + b"\n"
        name = metadata_name(unit.invocation)
        await self._place(unit, result, {name})
        self._note_unit(unit, result)
        self.early = Early(digest=result.files[name], said=said)
        self.reply.begin(_for_user(unit, result, said))
        await self.reply.sent()

    async def whole(self, unit: Unit, result: Result) -> bytes:
        """Put all of it there that is not yet; the messages that are to be said. Raises
        DistbuildError and OSError."""
        digests, stderr = result.files, result.stderr
        wanted = set(digests)
        if self.early is not None:
            stderr = self.early.rest_of(stderr)
            # cargo would find dependents older than what they were made with
            name = metadata_name(unit.invocation)
            if digests.get(name) == self.early.digest:
                wanted.remove(name)
        moved = await self._place(unit, result, wanted)
        for name, path in moved.items():
            self.keyed.files.learn(os.stat(path), digests[name])
        self._note_unit(unit, result)
        return _for_user(unit, result, stderr)

    async def _place(self, unit: Unit, result: Result, wanted: Set[str]) -> dict[str, str]:
        """Put some of a result's files, and its dep-info, into the target directory.

        Returns the paths of programs that have a launcher in their place.
        """
        dep_info = dep_info_name(unit.invocation)
        digests = result.files
        files: dict[str, tuple[Path | bytes, bool]] = {}
        for file in result.action_result.output_files:
            name = file.path.removeprefix(f"{OUTPUTS}/")
            if name in wanted and name != dep_info:
                files[name] = (await self.parts.local.path(digests[name]), file.is_executable)
        placed = await asyncio.to_thread(
            place_outputs,
            out_dir=unit.roots.out_dir,
            files=files,
            dep_info=(dep_info, result.dep_info),
            linked={name for name in files if may_be_linked(unit.invocation, name)},
            umask=self.call.umask,
        )
        for name in files:
            self.parts.local.linked(digests[name], placed[name])
            self.keyed.files.learn(placed[name], digests[name])
        return install_launchers(self.parts.home, unit)

    def _note_unit(self, unit: Unit, result: Result) -> None:
        key = result.key.hash if result.key else ""
        stem, record = unit.record(result.learned, key, result.sources)
        # as it was placed: nothing is read
        self.parts.units.add(stem, replace(record, made=made_of(stem, self.keyed.files)))
        if result.key is not None and not result.is_of_path:
            self.keyed.beginnings.note(build_of(self.call), os.path.basename(stem), result.key)


def _for_user(unit: Unit, result: Result, stderr: bytes) -> bytes:
    """rustc's messages with this checkout's paths."""
    pairs = [*unit.roots.staged_to_real(result.root), *unit.roots.recorded_to_real()]
    return rewrite_messages(stderr, pairs)
