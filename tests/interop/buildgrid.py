"""Runs `bgd`, BuildGrid's command line client, and reads what it prints."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .processes import Finished, client_environment, run, service
from .programs import Tools

_PUSHED = re.compile(r"Success: Pushed path=\[(.*)\] with digest=\[(.*)\]")
_OPERATION = re.compile(r'^name: "(.+)"$', re.MULTILINE)
_ACTION = re.compile(r'Sent action=\[hash: "(\w+)"\s+size_bytes: (\d+)')


def digest_of(data: bytes) -> str:
    """HASH/SIZE, as bgd writes digests."""
    return f"{hashlib.sha256(data).hexdigest()}/{len(data)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bgd:
    """A user of bgd in the directory `home`, of the server at `url` (http:// or unix:)."""

    tools: Tools
    home: Path
    url: str

    def __call__(
        self, group: str, *arguments: str | Path, status: int = 0, stdin: str = ""
    ) -> Finished:
        environment = client_environment(self.home)
        command = self.command(group, *arguments)
        finished = run(command, cwd=self.home, environment=environment, stdin=stdin, timeout=60)
        return finished.expect(status)

    def command(self, group: str, *arguments: str | Path) -> list[str | Path]:
        """The words of a bgd command for this user's server."""
        return [self.tools.bgd, group, "--remote", self.url, *arguments]

    def upload(self, verb: str, *paths: Path) -> dict[str, str]:
        """The digest of every path that `upload-file` or `upload-dir` says it pushed."""
        return dict(_PUSHED.findall(self("cas", verb, "--verify", *paths).output))

    def download(self, verb: str, digest: str, to: Path) -> Path:
        finished = self("cas", verb, "--verify", digest, to)
        assert f"Success: Pulled path=[{to}]" in finished.output, finished.output
        return to

    def execute(self, root: Path, *command: str, options: Sequence[str | Path] = ()) -> Finished:
        """Runs a command on a worker, with `root` as the input root, to its end."""
        return self("execute", "command", *options, root, "--", *command)

    def cached(self, action: str) -> dict[str, Any] | None:
        """The action's cached result as JSON, or None when bgd reports a miss."""
        finished = self("actioncache", "get", "--json", action)
        if finished.output.startswith("Miss:"):
            return None
        result: dict[str, Any] = json.loads(finished.stdout)
        return result

    @contextmanager
    def executing(
        self, root: Path, *arguments: str | Path
    ) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """An `execute command` that goes on in the background: its operation's name and process."""
        log = self.home / "execute.log"
        log.unlink(missing_ok=True)
        with service(
            self.command("execute", "command", root, "--", *arguments),
            log=log,
            ready=lambda: log.exists() and bool(_OPERATION.search(log.read_text())),
            environment=client_environment(self.home),
        ) as process:
            yield _OPERATION.findall(log.read_text())[0], process


def action_of(finished: Finished) -> str:
    """The digest of the action that `execute` says it sent."""
    found = _ACTION.search(finished.output)
    assert found, finished.output
    return f"{found[1]}/{found[2]}"
