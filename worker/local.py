"""Running one Command on this machine without a server: for tests and for trying things out."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from remote_apis.bubblewrap import find_bubblewrap
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.command import parse_command
from worker.config import ResourceLimits
from worker.materialise import make_output_parents
from worker.paths import ActionRoot
from worker.sandbox.bubblewrap import BubblewrapProgram, BubblewrapSandbox
from worker.sandbox.interface import Sandbox, SandboxRequest
from worker.sandbox.none import NoSandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalResult:
    """How the command ended; its outputs are in the input root."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool


async def run_locally(
    command: re_pb.Command,
    root: Path,
    *,
    sandbox: str = "bubblewrap",
    timeout: float | None = None,
) -> LocalResult:
    """Run a Command in the input root at `root`, which is used as it is, by this user.

    The action sees the root at /build in bubblewrap. Raises InvalidRequest when the Command is
    wrong or bubblewrap is not installed, SandboxError when it does not work.
    """
    spec = parse_command(command)
    with tempfile.TemporaryDirectory(prefix="distbuild-local-") as name:
        base = Path(name)
        chosen: Sandbox = NoSandbox()
        if sandbox == "bubblewrap":
            bwrap = find_bubblewrap()
            if bwrap is None:
                raise InvalidRequest("bubblewrap is not installed")
            chosen = BubblewrapSandbox(BubblewrapProgram(bwrap=bwrap), base)
        make_output_parents(spec, ActionRoot(root, chosen.inside(root)), None)
        request = SandboxRequest(
            slot=0,
            arguments=spec.arguments,
            environment=spec.environment,
            working_directory=spec.working_directory,
            root=root,
            temporary=base / "tmp",
            stdout=base / "stdout",
            stderr=base / "stderr",
            limits=ResourceLimits(),
        )
        finished = await chosen.run(request, timeout=timeout)
        return LocalResult(
            exit_code=finished.exit_code,
            stdout=request.stdout.read_bytes(),
            stderr=request.stderr.read_bytes(),
            timed_out=finished.timed_out,
        )
