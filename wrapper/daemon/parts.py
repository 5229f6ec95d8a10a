"""What answering calls needs, of which a daemon has one each; and what it has one of for each
digest function in use."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

from remote_apis.digest_functions import DigestFunction
from wrapper.build_scripts.runs import BuildScriptRuns
from wrapper.daemon.beginnings import Beginnings
from wrapper.daemon.lines import BuildLines
from wrapper.daemon.remotes import Remotes
from wrapper.here import LocalCompiles
from wrapper.home import Home
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.collect import Collector
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.unit_records import UnitRecords
from wrapper.keeping import Keeper
from wrapper.keys.journal import KeyJournal
from wrapper.ladder import Ladder
from wrapper.layout import said_by_script
from wrapper.local_tier import LocalTier
from wrapper.preferred import PREFERRED
from wrapper.remote import Remote

_DRAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """The parts that name files and results by their digests."""

    files: FileDigests
    collector: Collector
    ladder: Ladder
    keeper: Keeper
    script_runs: BuildScriptRuns
    beginnings: Beginnings


@dataclass(frozen=True, slots=True)
class Unwatched:
    """Why a build script is not to be watched; `failed_at`: it is so if it has done well without
    since then, in seconds since the epoch."""

    why: str
    failed_at: float | None = None

    def is_so(self, out_dir: str) -> bool:
        """Whether it still holds: what a script has said, cargo notes when that did well."""
        if self.failed_at is None:
            return True
        try:
            said = os.stat(said_by_script(out_dir))
        except OSError:
            return False
        return said.st_mtime >= self.failed_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """`unwatched` are build scripts that are not to be watched, by their keys; `compiles_within`
    the watched runs in which units were compiled, whose reads nobody saw.
    """

    home: Home
    units: UnitRecords
    local: LocalTier
    here: LocalCompiles
    remotes: Remotes
    journal: KeyJournal
    lines: BuildLines
    builds: BuildStarts = field(default_factory=BuildStarts)
    unwatched: dict[str, Unwatched] = field(default_factory=dict)
    compiles_within: set[str] = field(default_factory=set)
    _keyed: dict[DigestFunction, Keyed] = field(default_factory=dict)

    def keyed_for(self, remote: Remote | str | None) -> Keyed:
        """The parts for builds with a server, or without one that can be had."""
        return self.keyed(remote.function if isinstance(remote, Remote) else PREFERRED)

    def keyed(self, function: DigestFunction) -> Keyed:
        """The parts that use a digest function."""
        if function not in self._keyed:
            self._keyed[function] = self._make(function)
        return self._keyed[function]

    def _make(self, function: DigestFunction) -> Keyed:
        files = FileDigests(function)
        files.load(self.home.digests(function.label))
        collector = Collector(files, self.units, self.builds)
        ladder = Ladder(collector, self.local, self.journal)
        return Keyed(
            files=files,
            collector=collector,
            ladder=ladder,
            keeper=Keeper(collector, files, self.local, on_kept=ladder.made_anew),
            script_runs=BuildScriptRuns(files, self.local, self.builds),
            beginnings=Beginnings(self.home, collector, self.local, self.lines),
        )

    async def close(self) -> None:
        """Finish what goes on behind builds, and write down what is worth it."""
        every = list(self._keyed.items())
        await asyncio.gather(*(keyed.keeper.drain(_DRAIN_SECONDS) for _, keyed in every))
        for function, keyed in every:
            await keyed.keeper.close()
            await keyed.beginnings.close()
            keyed.files.save(self.home.digests(function.label))
