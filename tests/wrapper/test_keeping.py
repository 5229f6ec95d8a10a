"""What becomes of a result after its compile has ended here, and where that is told."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from server.actioncache.directory import DirectoryActionCache
from server.blobstore.disk import DiskBlobStore
from server.blobstore.evicting import EvictingBlobStore
from tests.wrapper.reason_texts import provokes
from tests.wrapper.test_reasons import Rung, connected, rung
from wrapper.compiled import Compiled, outputs_of
from wrapper.found import Result
from wrapper.home import Home
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.unit_records import Learned, record_of
from wrapper.keeping import Keeper
from wrapper.keys.explain import Explainer
from wrapper.keys.journal import Ended, Subject
from wrapper.ladder import EDITED, NEW, Ask, Miss
from wrapper.local_tier import LocalTier
from wrapper.preferred import PREFERRED
from wrapper.recorded import Recorded
from wrapper.remote import Remote
from wrapper.result_checks import learned_by
from wrapper.rustc.outputs import output_names
from wrapper.stats import UnitStat, add_unit, summary

BUILD = "b"
DEP_INFO = "x.d: crates/core/src/lib.rs {more}\n\ncrates/core/src/lib.rs:\n{more}:\n"


async def _not_expected(_: Result) -> None:
    raise AssertionError


@dataclass(kw_only=True)
class Desk:
    """A keeper, and a unit that it is given."""

    rung: Rung
    home: Home
    keeper: Keeper

    @property
    def deps(self) -> Path:
        return self.rung.alice.target / "debug" / "deps"

    @property
    def package(self) -> Path:
        return self.rung.alice.workspace / "crates" / "core"

    async def resolve(self) -> Result | Miss:
        ask = Ask(unit=self.rung.unit(), remote=None, instance="", on_early=_not_expected)
        return await self.rung.ladder.resolve(ask)

    async def compiled(self, more: str = "crates/core/src/a.rs") -> Compiled:
        """The unit, as if rustc had just compiled it and read this file beside the first."""
        unit, found = self.rung.unit(), await self.resolve()
        assert isinstance(found, Miss)
        for name in output_names(unit.invocation):
            text = DEP_INFO.format(more=more) if name.endswith(".d") else f"content of {name}"
            (self.deps / name).write_text(text)
        return Compiled(
            unit=unit, draft=found.draft, outputs=outputs_of(unit, {}), learned=learned_by(unit),
            stderr=b"",
            started_ns=time.time_ns() - 10**9, seconds=1.0, was_fresh=True,
        )  # fmt: skip

    def submit(self, compiled: Compiled, remote: Remote | None = None, reason: str = NEW) -> None:
        """As the daemon does when the compile has been counted."""
        stat = UnitStat(
            crate="core-lib", kind="lib", outcome="local", worker=None, reason=reason, seconds=1.0
        )
        add_unit(self.home, BUILD, stat)
        subject = Subject.of(compiled.unit.invocation)
        self.rung.journal.ended(subject, Ended.of(stat, "core_lib", BUILD))
        recorded = Recorded(
            home=self.home, journal=self.rung.journal, build=BUILD, stat=stat, subject=subject,
            noted=compiled.draft.action.digest,
        )  # fmt: skip
        self.keeper.submit(compiled, recorded, remote, "", lambda _: None)

    async def said(self, compiled: Compiled) -> str:
        """The reason that there is when the keeper is done with it."""
        self.submit(compiled)
        await self.keeper.drain(20.0)
        return self.reason()

    def reason(self) -> str:
        """The one in the statistics, which the journal must have as well."""
        (unit,) = summary(self.home, BUILD)["units"]
        explainer = Explainer(self.home.keys)
        (entry,) = explainer.units("core_lib")
        explainer.close()
        assert entry.reason == unit["reason"]
        return str(entry.reason)


def keeper(found: Rung, local: LocalTier) -> Keeper:
    files = FileDigests(PREFERRED)
    return Keeper(found.collector, files, local, on_kept=found.ladder.made_anew)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with rung(tmp_path) as found:
        desk = Desk(rung=found, home=Home(tmp_path), keeper=keeper(found, found.local))
        yield desk
        await desk.keeper.close()


async def test_what_is_kept_keeps_its_reason(desk: Desk) -> None:
    assert await desk.said(await desk.compiled()) == NEW
    found = await desk.resolve()
    assert isinstance(found, Result) and found.outcome == "hit-local"


async def test_a_source_that_changes(desk: Desk) -> None:
    compiled = await desk.compiled()
    (desk.package / "src" / "a.rs").write_text("changed")
    provokes("its inputs changed while it was compiled", await desk.said(compiled))
    assert isinstance(await desk.resolve(), Miss)


async def test_a_source_that_changes_and_is_put_back(desk: Desk) -> None:
    """As by `git stash` and `git stash pop`: rustc may have read what was there in between."""
    source = desk.package / "src" / "a.rs"
    before, times = source.read_bytes(), source.stat()
    compiled = await desk.compiled()
    source.write_text("changed")
    source.write_bytes(before)
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    compiling = replace(compiled, seconds=60.0)
    provokes("its inputs changed while it was compiled", await desk.said(compiling))
    assert isinstance(await desk.resolve(), Miss)


async def test_a_source_that_is_written_anew_afterwards(desk: Desk) -> None:
    """As by a build script that writes into its package, whose own compile has ended before."""
    source = desk.package / "src" / "a.rs"
    compiled = await desk.compiled()
    time.sleep(0.05)
    source.write_bytes(source.read_bytes())
    assert await desk.said(compiled) == "new: no cache had it"


@pytest.mark.parametrize("way", ["a directory", "a link"])
async def test_another_directory_in_the_place_of_one(desk: Desk, way: str) -> None:
    """And the first one back: what was read in between may have been the other's."""
    package = desk.package / "src"
    for name in ("one", "two"):
        (package / name).mkdir()
        (package / name / "text").write_text(name)
    (package / "way").symlink_to("one")
    compiled = await desk.compiled()
    time.sleep(0.02)
    if way == "a directory":
        (package / "one").rename(package / "away")
        (package / "away").rename(package / "one")
    else:
        for target in ("two", "one"):
            (package / "way").unlink()
            (package / "way").symlink_to(target)
    compiling = replace(compiled, seconds=60.0)
    provokes("its inputs changed while it was compiled", await desk.said(compiling))


async def test_what_holds_paths_is_kept_for_them(desk: Desk) -> None:
    compiled = await desk.compiled()
    path, _ = next(each for name, each in compiled.outputs.items() if name.endswith(".rlib"))
    Path(path).write_bytes(b"in " + bytes(desk.package))
    compiled = replace(compiled, outputs=outputs_of(compiled.unit, {}))
    said = await desk.said(compiled)
    provokes("new: it holds a path of …, for which alone it is kept", said)
    found = await desk.resolve()
    assert isinstance(found, Result) and found.is_of_path


async def test_a_file_outside_that_gives_way_to_an_older_one(desk: Desk) -> None:
    note = desk.rung.alice.workspace / "crates" / "note"
    note.write_text("old")
    older = note.with_name("older")
    older.write_text("new")
    os.utime(older, (1.5e9, 1.5e9))
    compiled = await desk.compiled("crates/note")
    older.rename(note)
    learned = Learned(files=(str(note),))
    unit = compiled.unit
    desk.rung.units.add(*record_of(unit.invocation, learned, "", unit.roots.package))
    provokes("… changed while it was compiled", await desk.said(compiled))


async def test_a_file_outside_that_changes(desk: Desk) -> None:
    """What the unit turned out to read is in no key before the compile."""
    compiled = await desk.compiled("crates/note")
    note = desk.rung.alice.workspace / "crates" / "note"
    note.write_text("written when it was compiled")
    unit = compiled.unit
    desk.rung.units.add(
        *record_of(unit.invocation, Learned(files=(str(note),)), "", unit.roots.package)
    )
    provokes("… changed while it was compiled", await desk.said(compiled))
    assert desk.reason().startswith(str(note))


async def test_a_file_that_has_no_name(desk: Desk) -> None:
    said = await desk.said(await desk.compiled("/etc/hostname"))
    provokes("it reads …, which is no input", said)
    assert said == "it reads /etc/hostname, which is no input"


async def test_an_output_that_is_made_anew(desk: Desk) -> None:
    compiled = await desk.compiled()
    (desk.deps / "libcore_lib-99aa.rlib").write_text("another")
    provokes("… was made anew meanwhile", await desk.said(compiled))


async def test_what_was_removed_meanwhile(desk: Desk) -> None:
    compiled = await desk.compiled()
    (desk.deps / "libcore_lib-99aa.rlib").unlink()
    provokes("… was made anew meanwhile", await desk.said(compiled))


async def test_what_cannot_be_kept(desk: Desk) -> None:
    compiled = await desk.compiled()
    (desk.home.path / "cache" / "tmp").rename(desk.home.path / "away")
    provokes("it could not be kept: …", await desk.said(compiled))


async def test_what_the_store_refuses(desk: Desk, tmp_path: Path) -> None:
    store = await DiskBlobStore.open(tmp_path / "small", durable=False)
    small = EvictingBlobStore(store, max_bytes=1)
    results = DirectoryActionCache(tmp_path / "small" / "results")
    desk.keeper = keeper(desk.rung, LocalTier(store, small, results, lambda: None))
    try:
        said = await desk.said(await desk.compiled())
    finally:
        await small.close()
        await store.close()
    provokes("it could not be kept: …", said)
    assert "larger than the store" in said


async def test_what_is_refused_only_then(desk: Desk) -> None:
    """A reason for having no key at all may come about late."""
    compiled = await desk.compiled()
    (desk.deps / "libdirect-1.rmeta").unlink()
    (desk.deps / "libdirect-1.rlib").unlink()
    said = await desk.said(compiled)
    assert said.startswith("its dependency direct-1 is not in"), said


async def test_a_server_that_fails_makes_it_no_less_kept(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected("grpc://127.0.0.1:1") as remote:
        desk.submit(await desk.compiled(), remote)
        await desk.keeper.drain(20.0)
        assert remote.is_down
    assert desk.reason() == NEW
    assert "core-lib (lib) is not shared" in caplog.text
    assert isinstance(await desk.resolve(), Result)


async def test_what_is_being_edited_is_told_later(desk: Desk) -> None:
    compiled = await desk.compiled("/etc/hostname")
    edited = replace(compiled, draft=replace(compiled.draft, is_edited=True))
    began = time.monotonic()
    desk.submit(edited, reason=EDITED)
    while desk.reason() == EDITED:
        assert time.monotonic() - began < 30
        await asyncio.sleep(0.05)
    assert time.monotonic() - began > 0.4
    assert desk.reason() == f"{EDITED}; not kept: it reads /etc/hostname, which is no input"


async def test_statistics_that_cannot_be_written(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    compiled = await desk.compiled("/etc/hostname")
    desk.submit(compiled)
    for path in desk.home.builds.iterdir():
        path.unlink()
    desk.home.builds.rmdir()
    desk.home.builds.touch()
    await desk.keeper.drain(20.0)
    assert "the statistics cannot be written" in caplog.text
