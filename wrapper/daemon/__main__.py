"""`python -m wrapper.daemon HOME`: what start-daemon runs."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import sys
import threading
from pathlib import Path

from wrapper.home import Home, RemoteSettings


def main() -> int:
    """Take the lock, or leave when another daemon has it."""
    home = Home(Path(sys.argv[1]))
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(home.daemon_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    _serve(home)
    return 0


def _serve(home: Home) -> None:
    # imported late: of many daemons that start at once all but one have left
    from remote_apis.link_set import link_set
    from wrapper.daemon.compiler_question import CompilerQuestion
    from wrapper.daemon.toolchain_ahead import hash_ahead
    from wrapper.preferred import PREFERRED

    # the server may not be there: the log says so in our words
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    logging.basicConfig(
        filename=home.path / "daemon.log", filemode="w", level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )  # fmt: skip
    # threads that hash and copy get their turn soon, however busy the loop is
    sys.setswitchinterval(0.001)
    # most of the daemon's start is Python reading its modules: rustup answers meanwhile, and what
    # no daemon of this home has hashed before is hashed
    question = CompilerQuestion(os.environ)
    ahead = None
    is_new = not home.digests(PREFERRED.label).exists() and not home.sha256_servers.exists()
    if question.sysroot is not None and is_new:
        with contextlib.suppress(OSError):  # else it is hashed when a unit needs it
            ahead = hash_ahead(question.sysroot, PREFERRED)
    # the C compiler is asked, and what it links with hashed, before a unit waits for that
    threading.Thread(target=link_set, daemon=True).start()
    import uvloop

    from wrapper.daemon.run import run

    if RemoteSettings.of(os.environ).url is not None:
        import wrapper.clients  # noqa: F401  before the first build waits for it

    # what the modules made stays: it need not be gone through again and again
    gc.freeze()
    gc.set_threshold(10_000)
    uvloop.run(run(home, question, ahead))


if __name__ == "__main__":
    sys.exit(main())
