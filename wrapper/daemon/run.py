"""The daemon from its parts' making to their end."""

from __future__ import annotations

import asyncio
import json
import os
import signal

from server.actioncache.directory import DirectoryActionCache
from server.blobstore.disk import DiskBlobStore
from server.blobstore.evicting import EvictingBlobStore
from wrapper.daemon.compiler_question import CompilerQuestion
from wrapper.daemon.embedded import EmbeddedServer
from wrapper.daemon.lines import BuildLines
from wrapper.daemon.parts import Parts
from wrapper.daemon.remotes import Remotes
from wrapper.daemon.server import DaemonServer
from wrapper.here import LocalCompiles
from wrapper.home import Home, RemoteSettings, cache_bytes
from wrapper.inputs.hashing import Ahead
from wrapper.inputs.unit_records import UnitRecords
from wrapper.keys.journal import KeyJournal
from wrapper.local_tier import LocalTier
from wrapper.preferred import PREFERRED
from wrapper.version import code_stamp


async def run(home: Home, question: CompilerQuestion, ahead: Ahead | None) -> None:
    """Serve until told to stop. `question`: which compiler the next build will most likely use;
    `ahead`: its hashes, where they are on their way."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store = await DiskBlobStore.open(home.path / "cache", durable=False, in_threads=True)
    bounded = EvictingBlobStore(store, max_bytes=cache_bytes(os.environ))
    results = DirectoryActionCache(home.path / "cache" / "results")
    parts = Parts(
        home=home,
        units=UnitRecords(home.path / "units.sqlite"),
        local=LocalTier(store, bounded, results, bounded.start_if_needed),
        here=LocalCompiles(home),
        remotes=Remotes(EmbeddedServer(home), home),
        journal=KeyJournal(home.keys),
        lines=BuildLines(home),
    )
    if ahead is not None:
        parts.keyed(PREFERRED).files.expect(ahead)
    function = parts.remotes.expected_function(RemoteSettings.of(os.environ).url)
    parts.keyed(function).beginnings.hash_compiler(question, os.environ)
    home.daemon_failed.unlink(missing_ok=True)
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
