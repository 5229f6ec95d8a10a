"""Fixtures of the interop tests: a running server, and the client programs.

DISTBUILD_INTEROP_ENDPOINT=HOST:PORT runs the tests against a server that is already up, to tell a
client's peculiarity from a defect of ours; it must be empty of what the tests upload.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import running_server

from .buildgrid import Bgd
from .files import write_files
from .programs import Tools, default_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that accepts calls on `address`, HOST:PORT, without TLS."""

    address: str

    @property
    def grpc_url(self) -> str:
        return f"grpc://{self.address}"

    @property
    def http_url(self) -> str:
        return f"http://{self.address}"


StartServer = Callable[..., Server]


@pytest.fixture
def tools() -> Tools:
    return Tools(directory=default_directory())


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for a socket: those hold about 100 characters."""
    path = Path(tempfile.mkdtemp(prefix="interop-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts `distbuild serve` with extra options; every one is stopped after the test."""
    with ExitStack() as started:

        def start(*options: str, sandbox: str = "none") -> Server:
            if endpoint := os.environ.get("DISTBUILD_INTEROP_ENDPOINT"):
                return Server(address=endpoint)
            data = Path(tempfile.mkdtemp(prefix="server-", dir=tmp_path))
            words = ("--workers", "2", "--sandbox", sandbox, *options)
            return Server(address=started.enter_context(running_server(data, *words)).target)

        yield start


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """One fresh, empty server for this test alone."""
    return start_server()


@pytest.fixture
def bgd(tools: Tools, server: Server, tmp_path: Path) -> Bgd:
    """BuildGrid's client, speaking to the test's server."""
    return Bgd(tools=tools, home=tmp_path / "bgd", url=server.http_url)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An input root: nested and empty directories, a symlink, an executable, an empty file."""
    files = {"one.txt": "one\n", "sub/deep/two.txt": "two\n", "run.sh": "#!/bin/sh\n", "empty": ""}
    directory = write_files(tmp_path / "root", files)
    (directory / "hollow").mkdir()
    (directory / "link").symlink_to("sub/deep/two.txt")
    return directory
