"""Runs of build scripts in real stores: what is kept, what is put back, and why it is not."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.errors import DigestMismatch
from server.actioncache.directory import DirectoryActionCache
from server.blobstore.disk import DiskBlobStore
from tests.wrapper.reason_texts import provokes
from tests.wrapper.test_build_script_reads import roots_of
from wrapper.build_scripts import machine, reads
from wrapper.build_scripts.accesses import Seen
from wrapper.build_scripts.names import with_places
from wrapper.build_scripts.outputs import empty_directory, stamps
from wrapper.build_scripts.reads import NotNameable, Record
from wrapper.build_scripts.run import NotWorthKeeping, Run, Watched, run_variables
from wrapper.build_scripts.runs import BuildScriptRuns, PutBack
from wrapper.build_scripts.seen import what_was_seen
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.file_digests import FileDigests
from wrapper.local_tier import LocalTier
from wrapper.notes import Notes
from wrapper.preferred import PREFERRED
from wrapper.recorded import NotKept
from wrapper.roots import cargo_home


@dataclass
class Place:
    """A build script's place, and a daemon's stores."""

    directory: Path
    runs: BuildScriptRuns
    local: LocalTier
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """OUT_DIR."""
        return self.directory / "ws/target/debug/build/app-1/out"

    @property
    def run(self) -> Run:
        """The run as cargo asks for it."""
        own = {"OUT_DIR": str(self.out), "PATH": "/usr/bin", "TARGET": "t"}
        return Run(
            program=str(self.directory / "program"),
            roots=roots_of(str(self.directory / "home"), str(self.directory / "ws")),
            environment=own | self.environment,
        )

    def made(
        self, files: dict[str, bytes], *, seconds: float = 1.0, accesses: int = 0, **read: str
    ) -> Watched:
        """A run that has made these files, and has read paths of these kinds."""
        for name, data in files.items():
            path = self.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return Watched(
            run=self.run, seen=Seen(reads=read), made=stamps(str(self.out)), stdout=b"said",
            stderr=b"", started=time.time() - 100, seconds=seconds,
            accesses=accesses,
        )  # fmt: skip

    async def keep(self, watched: Watched) -> None:
        """Keep the run on this machine."""
        await self.runs.keep(watched, self.runs.script(watched.run), "")

    async def put_back(self) -> dict[str, bytes] | None:
        """The files that a hit leaves in an empty OUT_DIR."""
        empty_directory(str(self.out))
        run = self.run
        back = await self.runs.put_back(run, self.runs.script(run), None, "")
        found = {str(p.relative_to(self.out)): p for p in self.out.rglob("*") if p.is_file()}
        assert isinstance(back, PutBack) == bool(found)
        return {name: p.read_bytes() for name, p in found.items()} or None


@asynccontextmanager
async def placed(directory: Path) -> AsyncIterator[Place]:
    """A place whose stores are opened; they may have been before."""
    store = await DiskBlobStore.open(directory / "cache", durable=False)
    results = DirectoryActionCache(directory / "cache" / "results")
    local = LocalTier(store, store, results, lambda: None)
    runs = BuildScriptRuns(FileDigests(PREFERRED), local, BuildStarts())
    place = Place(directory, runs, local)
    place.out.mkdir(parents=True, exist_ok=True)
    (directory / "program").write_bytes(b"the script")
    try:
        yield place
    finally:
        await store.close()


FILES = {"a/b.rs": b"one", "a/c.rs": b"two", "d": b"", "large": b"large" * (1 << 20)}


async def test_a_run_comes_back_also_after_a_restart(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        assert await place.put_back() is None
        await place.keep(place.made(FILES))
        assert await place.put_back() == FILES
    async with placed(tmp_path) as place:
        assert await place.put_back() == FILES


async def test_many_files(tmp_path: Path) -> None:
    files = {f"{number % 7}/{number}": b"%d" % (number // 2) for number in range(300)}
    async with placed(tmp_path) as place:
        await place.keep(place.made(files))
        assert await place.put_back() == files


async def test_a_file_that_cannot_be_stored(tmp_path: Path) -> None:
    digests = [Digest.of(b"%d" % number, PREFERRED) for number in range(100)]
    (tmp_path / "of another").write_text("other")
    async with placed(tmp_path) as place:
        for path, error in (("none", FileNotFoundError), ("of another", DigestMismatch)):
            blobs: dict[Digest, bytes | str] = {d: b"%d" % n for n, d in enumerate(digests)}
            blobs[digests[70]] = str(tmp_path / path)
            with pytest.raises(error):
                await place.local.store_all(blobs)
            assert await place.local.missing(digests[:80]) == {digests[70]}


@pytest.mark.parametrize("name", ["a/b.rs", "large"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
async def test_a_damaged_blob_is_not_put_back_and_is_kept_anew(
    tmp_path: Path, name: str, damage: str
) -> None:
    async with placed(tmp_path) as place:
        await place.keep(place.made(FILES))
        blob = Path(place.local.where(Digest.of(FILES[name], PREFERRED)))
        if damage == "gone":
            blob.unlink()
        else:
            blob.chmod(0o644)
            blob.write_bytes(b"x" * blob.stat().st_size)
        assert await place.put_back() is None
        assert os.listdir(place.out) == []
        await place.keep(place.made(FILES))
        assert await place.put_back() == FILES


async def test_what_turns_out_only_when_it_is_kept(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        watched = place.made(FILES)
        (place.out / "d").write_bytes(b"more")
        with pytest.raises(NotKept) as raised:
            await place.keep(watched)
        provokes("what it made was changed meanwhile", str(raised.value))


@pytest.mark.parametrize(
    ("count", "seconds", "accesses", "is_worth"),
    [
        (1000, 0.02, 1000, False),
        (1000, 0.2, 0, True),
        (1000, 0.2, 9999, True),
        (1000, 0.05, 9999, False),
        (1, 0.0001, 1, True),
    ],
)
async def test_files_that_are_made_sooner_than_put_back(
    tmp_path: Path, count: int, seconds: float, accesses: int, is_worth: bool
) -> None:
    async with placed(tmp_path) as place:
        files = {f"{number}.rs": b"" for number in range(count)}
        watched = place.made(files, seconds=seconds, accesses=accesses)
        if is_worth:
            await place.keep(watched)
            return
        with pytest.raises(NotWorthKeeping) as raised:
            await place.keep(watched)
        provokes("it makes its … files sooner than they could be put back", str(raised.value))


async def test_a_date_in_the_checkouts_path(tmp_path: Path) -> None:
    """It is in other build systems' notes, which are kept with names in place of paths, and says
    nothing; by itself it does."""
    today = time.strftime("%Y-%m-%d")
    async with placed(tmp_path / today) as place:
        note = f"{place.out}/x.o: {place.directory}/ws/x.c\n".encode()
        await place.keep(place.made({"x.d": note}))
        assert await place.put_back() == {"x.d": note}
        with pytest.raises(NotKept) as raised:
            await place.keep(place.made({"x.d": f"{today}: x.c\n".encode()}))
        provokes("what it makes holds …", str(raised.value))


@pytest.mark.parametrize("program", ["date", "sed"])
async def test_a_part_of_a_date(tmp_path: Path, program: str) -> None:
    """By chance, or of a program that tells it."""
    async with placed(tmp_path) as place:
        watched = place.made({"x": time.strftime("of %Y").encode()})
        watched.seen.programs.add(f"/usr/bin/{program}")
        if program == "date":
            with pytest.raises(NotKept, match="holds a date"):
                await place.keep(watched)
        else:
            await place.keep(watched)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is said of this machine."""
    said = {"hostname": "builder-one", "osrelease": "6.1.0-release"}
    for module in (machine, reads):
        monkeypatch.setattr(module, "fact", lambda path: said.get(os.path.basename(path)))
    return said


@pytest.mark.parametrize("file", ["config.h", "host.log", "Makefile", "config.log"])
@pytest.mark.parametrize("name", ["hostname", "osrelease"])
async def test_what_tells_of_this_machine(
    tmp_path: Path, told: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    note = {file: f"// of {told[name]}".encode()}
    async with placed(tmp_path) as place:
        watched = place.made(note)
        if file != "config.log":  # a script's own, where nothing of configure's runs
            watched.seen.programs.add("/usr/bin/sh")
        await place.keep(watched)
        assert await place.put_back() == note
        with monkeypatch.context() as elsewhere:
            elsewhere.setitem(told, name, "another one")
            assert await place.put_back() is None
        assert await place.put_back() == note


@pytest.mark.parametrize("file", ["config.log", "CMakeFiles/rules.txt"])
async def test_logs_may_tell_of_another_machine(
    tmp_path: Path, told: dict[str, str], file: str
) -> None:
    """cmake and configure write into their logs on which machine they run."""
    note = {file: f"running on {told['hostname']}, {told['osrelease']}".encode()}
    async with placed(tmp_path) as place:
        watched = place.made(note)
        watched.seen.programs.add("/usr/bin/sh")
        await place.keep(watched)
        told |= {"hostname": "another one", "osrelease": "6.2.0-release"}
        assert await place.put_back() == note


@pytest.mark.parametrize("program", ["hostname", "sed"])
async def test_a_short_name_counts_where_it_is_asked_for(
    tmp_path: Path, told: dict[str, str], program: str
) -> None:
    told["hostname"] = "a"
    async with placed(tmp_path) as place:
        watched = place.made({"x": b"a"})
        watched.seen.programs.add(f"/usr/bin/{program}")
        await place.keep(watched)
        told["hostname"] = "b"
        assert (await place.put_back() is None) == (program == "hostname")


async def test_a_record_that_is_none_gives_way(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        watched = place.made(FILES)
        script = place.runs.script(place.run)
        await Notes(place.local).keep(script, b"odd", "")
        with pytest.raises(NotNameable) as raised:
            await place.runs.put_back(place.run, script, None, "")
        provokes("the cache's record of it is none: …", str(raised.value))
        await place.keep(watched)
        assert await place.put_back() == FILES


@pytest.mark.parametrize(
    ("reach", "counts"), [("none", False), ("none told", False), ("known told", True)]
)
async def test_where_programs_look_for_libraries(tmp_path: Path, reach: str, counts: bool) -> None:
    """Cargo's own places, which all have, never count."""
    async with placed(tmp_path) as place:
        outer = tmp_path / "outer" / "target"  # of a cargo whose test started this one
        (outer / "debug" / "deps").mkdir(parents=True)
        (outer / "CACHEDIR.TAG").touch()
        of_cargo = [f"{tmp_path}/ws/target/debug/deps", f"{outer}/debug/deps", f"{outer}/debug"]
        place.environment["LD_LIBRARY_PATH"] = ":".join([*of_cargo, "/own/libraries"])
        record = Record(paths=frozenset(), variables=frozenset(), tokens="", reach=reach)
        found = run_variables(place.run, record).get("LD_LIBRARY_PATH")
        assert found == ("/own/libraries" if counts else None)


async def test_where_cargo_puts_what_it_builds(tmp_path: Path) -> None:
    """Which may lie apart from where it builds: before the toolchain's libraries all is cargo's."""
    async with placed(tmp_path) as place:
        toolchain = tmp_path / "toolchain"
        place.environment["RUSTC"] = f"{toolchain}/bin/rustc"
        apart = tmp_path / "apart" / "debug"
        apart.mkdir(parents=True)
        (apart / "libown.so").touch()
        search = f"{apart}:{toolchain}/lib/rustlib/x/lib:{toolchain}/lib:/own/libraries"
        place.environment |= {"LD_LIBRARY_PATH": search, "TMPDIR": str(tmp_path / "tmp")}
        record = Record(paths=frozenset(), variables=frozenset(), tokens="", reach="known told")
        roots = with_places(place.run.roots, place.run.environment)
        run = replace(place.run, roots=roots, program="/script/build")
        assert run_variables(run, record)["LD_LIBRARY_PATH"] == "/own/libraries"
        looks = [("s", str(apart)), ("o", f"{apart}/libc.so.6"), ("o", f"{apart}/libown.so")]
        seen = what_was_seen(run, looks, str(tmp_path / "home"))
        assert list(seen.reads) == [f"{apart}/libown.so"], "what is there counts"


@pytest.mark.parametrize(("notes", "kind"), [([".global-cache-journal"], "s"), ([], "o")])
async def test_cargo_writes_out_its_notes(tmp_path: Path, notes: list[str], kind: str) -> None:
    """For which it opens its directory, and lists nothing."""
    async with placed(tmp_path) as place:
        home = cargo_home(place.run.environment)
        looks = [*(("c", f"{home}/{name}") for name in notes), ("o", home)]
        seen = what_was_seen(place.run, looks, str(tmp_path / "home"))
        assert (seen.reads, seen.trouble) == ({home: kind}, None)


@pytest.mark.parametrize("name", ["openssl-sys-0.9.112", "libmimalloc-sys-0.1.44", "other-1.0.0"])
async def test_libraries_that_say_when_they_were_compiled(tmp_path: Path, name: str) -> None:
    """Of two it is known that they say no more, and that in words."""
    async with placed(tmp_path) as place:
        watched = place.made({"x": time.strftime("%b %e %Y", time.gmtime()).encode()})
        package = f"{tmp_path}/home/registry/src/index-0123456789abcdef/{name}"
        roots = replace(watched.run.roots, package=package)
        watched = replace(watched, run=replace(watched.run, roots=roots), started=time.time())
        if name.startswith("other"):
            with pytest.raises(NotKept, match="holds a date"):
                await place.keep(watched)
        else:
            await place.keep(watched)


async def test_a_toolchains_name_in_the_path_of_rustc(tmp_path: Path) -> None:
    """As the crate `built` writes it down."""
    rustc = "/toolchains/stable-of-today/bin/rustc"
    async with placed(tmp_path) as place:
        place.environment |= {"RUSTC": rustc, "RUSTUP_TOOLCHAIN": "stable-of-today"}
        files = {"built.rs": rustc.encode()}
        await place.keep(place.made(files))
        assert await place.put_back() == files


async def test_links_to_nothing_may_be_opened(tmp_path: Path) -> None:
    """systemd masks units so, and who looks at all of /usr/lib meets them."""
    (tmp_path / "masked.service").symlink_to(os.devnull)
    async with placed(tmp_path) as place:
        watched = replace(place.made(FILES), started=time.time() + 10)  # it was there before
        watched.seen.reads[str(tmp_path / "masked.service")] = "o"
        await place.keep(watched)
        assert await place.put_back() == FILES
