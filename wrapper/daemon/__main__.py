"""`python -m wrapper.daemon HOME`: what start-daemon runs."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from server.actioncache.directory import DirectoryActionCache
from server.blobstore.disk import DiskBlobStore
from server.blobstore.evicting import EvictingBlobStore
from wrapper.build_scripts.runs import BuildScriptRuns
from wrapper.daemon.beginnings import Beginnings
from wrapper.daemon.calls import Parts
from wrapper.daemon.embedded import EmbeddedServer
from wrapper.daemon.lines import BuildLines
from wrapper.daemon.remotes import Remotes
from wrapper.daemon.server import DaemonServer
from wrapper.here import LocalCompiles
from wrapper.home import Home, cache_bytes
from wrapper.inputs.collect import Collector
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.unit_records import UnitRecords
from wrapper.keeping import Keeper
from wrapper.keys.journal import KeyJournal
from wrapper.ladder import FUNCTION, Ladder
from wrapper.local_tier import LocalTier
from wrapper.version import code_stamp

_DRAIN_SECONDS = 30.0


async def run(home: Home) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store = await DiskBlobStore.open(home.path / "cache", durable=False)
    bounded = EvictingBlobStore(store, max_bytes=cache_bytes(os.environ))
    results = DirectoryActionCache(home.path / "cache" / "results")
    local = LocalTier(store, bounded, results, bounded.start_if_needed)
    files = FileDigests(FUNCTION)
    files.load(home.path / "digests.json")
    units = UnitRecords(home.path / "units.sqlite")
    journal = KeyJournal(home.keys)
    collector = Collector(files, units)
    ladder = Ladder(collector, local, journal)
    remotes = Remotes(EmbeddedServer(home), home.jobs)
    lines = BuildLines(home)
    beginnings = Beginnings(home, collector, local, lines)
    parts = Parts(
        home=home, files=files, units=units, collector=collector, local=local,
        ladder=ladder, here=LocalCompiles(),
        keeper=Keeper(collector, files, local, on_kept=ladder.made_anew),
        remotes=remotes, journal=journal, lines=lines,
        script_runs=BuildScriptRuns(files, local), beginnings=beginnings,
    )  # fmt: skip
    beginnings.hash_compiler(os.environ)
    (home.path / "daemon.failed").unlink(missing_ok=True)
    home.daemon_state.write_text(json.dumps({"pid": os.getpid(), "stamp": code_stamp()}))
    try:
        await DaemonServer(parts).serve(stop)
    finally:
        await parts.keeper.drain(_DRAIN_SECONDS)
        await parts.keeper.close()
        await beginnings.close()
        await remotes.close()
        await bounded.close()
        await store.close()
        files.save(home.path / "digests.json")
        units.close()
        journal.close()


def main() -> int:
    """Take the lock, or leave when another daemon has it."""
    home = Home(Path(sys.argv[1]))
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(home.path / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    # the server may not be there: the log says so in our words
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    logging.basicConfig(
        filename=home.path / "daemon.log", filemode="w", level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )  # fmt: skip
    # threads that hash and copy get their turn soon, however busy the loop is
    sys.setswitchinterval(0.001)
    uvloop.run(run(home))
    return 0


if __name__ == "__main__":
    sys.exit(main())
