"""Runs the git program, cut off from the configuration of this machine and its users."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remote_apis.errors import Unavailable

_OLDEST = (2, 37)
_BLOCK = 512
_MAX_OUTPUT = 256 * 1024 * 1024
_LIMITED = 'ulimit -c 0; ulimit -f "$0" && exec "$@"'
"""For sh. A repository can be tiny and what git makes of it endless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a run ended; `status` is negative after a signal."""

    status: int
    output: bytes
    errors: str

    @property
    def reason(self) -> str:
        """What git said last."""
        if self.status == -signal.SIGXFSZ:
            return "larger than what is fetched"
        lines = self.errors.strip().splitlines()
        return lines[-1][:300] if lines else f"git ended with {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitProgram:
    """`directory` is git's repository, home and working directory.

    `pin`: for http.curloptResolve, HOST:PORT:ADDRESSES. The headers go with every http request;
    git follows no redirects, so they reach nobody else.
    """

    program: str
    directory: Path
    pin: str | None
    headers: Mapping[str, str] = field(default_factory=dict)

    async def check_version(self) -> None:
        """Raises Unavailable without a git that obeys `pin`; others look up the host again."""
        try:
            finished = await self.run("version")
        except OSError as error:
            raise Unavailable(f"cannot run {self.program}: {error.strerror}") from error
        match = re.search(rb"(\d+)\.(\d+)", finished.output)
        if finished.status or match is None or (int(match[1]), int(match[2])) < _OLDEST:
            raise Unavailable("fetching git repositories needs git 2.37 or newer on the server")

    async def run(
        self,
        *arguments: str,
        read: Path | None = None,
        write: Path | None = None,
        limit: int = _MAX_OUTPUT,
    ) -> Finished:
        """Run a command. `limit` bounds each file that it writes, its output as well.

        The output goes to the file `write` if given. When cancelled, all its processes are killed.
        """
        output = write or self.directory / "asset-stdout"
        errors = self.directory / "asset-stderr"
        with contextlib.ExitStack() as files:
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", _LIMITED, str(limit // _BLOCK + 1), self.program, *arguments,
                stdin=files.enter_context(open(read or os.devnull, "rb")),
                stdout=files.enter_context(output.open("wb")),
                stderr=files.enter_context(errors.open("wb")),
                cwd=self.directory,
                env=self._environment(),
                start_new_session=True,
            )  # fmt: skip
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Finished(
            status=status,
            output=b"" if write else output.read_bytes(),
            errors=errors.read_text(errors="replace"),
        )

    def _environment(self) -> dict[str, str]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.directory),
            "LC_ALL": "C",
            "GIT_DIR": ".",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_ALLOW_PROTOCOL": "http:https",
        }
        settings = list(self._settings())
        environment["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (key, value) in enumerate(settings):
            environment[f"GIT_CONFIG_KEY_{number}"] = key
            environment[f"GIT_CONFIG_VALUE_{number}"] = value
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if name in os.environ:
                environment[name] = os.environ[name]
        if "SSL_CERT_FILE" in os.environ:
            environment["GIT_SSL_CAINFO"] = os.environ["SSL_CERT_FILE"]
        return environment

    def _settings(self) -> Iterator[tuple[str, str]]:
        yield "http.followRedirects", "false"
        yield "http.proxy", ""
        yield "credential.helper", ""
        yield "fetch.unpackLimit", "1"  # one pack, which the limit on files bounds as a whole
        yield "gc.auto", "0"
        yield "core.bigFileThreshold", "32m"
        yield "http.lowSpeedLimit", "1"
        yield "http.lowSpeedTime", "60"
        if self.pin is not None:
            yield "http.curloptResolve", self.pin
        for name, value in self.headers.items():
            yield "http.extraHeader", f"{name}: {value}"
