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
from wrapper.daemon.embedded import EmbeddedServer
from wrapper.daemon.lines import BuildLines
from wrapper.daemon.parts import Parts
from wrapper.daemon.remotes import Remotes
from wrapper.daemon.server import DaemonServer
from wrapper.here import LocalCompiles
from wrapper.home import Home, RemoteSettings, cache_bytes
from wrapper.inputs.unit_records import UnitRecords
from wrapper.keys.journal import KeyJournal
from wrapper.local_tier import LocalTier
from wrapper.version import code_stamp


async def run(home: Home) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store = await DiskBlobStore.open(home.path / "cache", durable=False)
    bounded = EvictingBlobStore(store, max_bytes=cache_bytes(os.environ))
    results = DirectoryActionCache(home.path / "cache" / "results")
    parts = Parts(
        home=home,
        units=UnitRecords(home.path / "units.sqlite"),
        local=LocalTier(store, bounded, results, bounded.start_if_needed),
        here=LocalCompiles(),
        remotes=Remotes(EmbeddedServer(home), home),
        journal=KeyJournal(home.keys),
        lines=BuildLines(home),
    )
    function = parts.remotes.expected_function(RemoteSettings.of(os.environ).url)
    parts.keyed(function).beginnings.hash_compiler(os.environ)
    (home.path / "daemon.failed").unlink(missing_ok=True)
    home.daemon_state.write_text(json.dumps({"pid": os.getpid(), "stamp": code_stamp()}))
    try:
        await DaemonServer(parts).serve(stop)
    finally:
        await parts.close()
        await parts.remotes.close()
        await bounded.close()
        await store.close()
        parts.units.close()
        parts.journal.close()


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
