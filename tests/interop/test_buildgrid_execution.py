"""bgd runs commands on our workers, follows and cancels them, and reads log streams."""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from .buildgrid import Bgd, action_of
from .processes import client_environment, service

pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]


def eventually(true: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)
    return true()


def running(*words: str) -> bool:
    """Whether a process with exactly this command line runs on this machine, in any sandbox."""
    wanted = b"".join(word.encode() + b"\0" for word in words)
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes() == wanted:
                return True
        except OSError:  # It ended meanwhile.
            continue
    return False


def long_sleep() -> tuple[str, str]:
    """A command that nobody else on this machine runs, far longer than any test."""
    return "/bin/sleep", f"100000.{uuid.uuid4().int % 10**18:018}"


def test_a_command_runs_and_its_outputs_come_back(bgd: Bgd, root: Path, tmp_path: Path) -> None:
    script = "cat one.txt link > made/all.txt; cp run.sh made/tool; echo said; echo warned >&2"
    options: list[str | Path] = [
        "--output-file", "made/all.txt", "--output-file", "made/tool",
        "--output-directory", tmp_path / "out", "--enable-action-cache",
    ]  # fmt: skip
    first = bgd.execute(root, "/bin/sh", "-c", script, options=options)
    assert (tmp_path / "out/made/all.txt").read_text() == "one\ntwo\n"
    assert os.access(tmp_path / "out/made/tool", os.X_OK)
    cached = bgd.cached(action_of(first))
    assert cached is not None
    assert {file["path"] for file in cached["outputFiles"]} == {"made/all.txt", "made/tool"}
    said = bgd.download("download-file", stream_digest(cached, "stdout"), tmp_path / "said")
    assert said.read_text() == "said\n"
    warned = bgd.download("download-file", stream_digest(cached, "stderr"), tmp_path / "warned")
    assert warned.read_text() == "warned\n"


def stream_digest(result: dict[str, dict[str, str]], name: str) -> str:
    digest = result[f"{name}Digest"]
    return f"{digest['hash']}/{digest['sizeBytes']}"


def test_without_caching_nothing_is_kept(bgd: Bgd, root: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--output-file", "now", "--output-directory", tmp_path / "out"]
    stamps = set()
    for _ in range(2):
        finished = bgd.execute(root, "/bin/sh", "-c", "date +%s.%N > now", options=options)
        stamps.add((tmp_path / "out/now").read_text())
        assert bgd.cached(action_of(finished)) is None
    assert len(stamps) == 2


def test_an_operation_is_listed_awaited_and_cancelled(bgd: Bgd, root: Path, tmp_path: Path) -> None:
    command = long_sleep()
    with bgd.executing(root, *command) as (name, _):
        assert eventually(lambda: running(*command))
        assert f"Executing: {name}:" in bgd("operation", "status", name).output
        assert f"Executing: {name}:" in bgd("operation", "list").output
        assert "Operation cancelled" in bgd("operation", "cancel", name).output
        assert eventually(lambda: not running(*command)), "the cancelled action still runs"
        waited = bgd("operation", "wait", name).output
        assert re.search(rf"Failure: {re.escape(name)}: .*\(code=1\)", waited), waited


def test_interrupting_the_client_cancels_the_action(bgd: Bgd, root: Path) -> None:
    command = long_sleep()
    with bgd.executing(root, *command) as (_, process):
        assert eventually(lambda: running(*command))
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert eventually(lambda: not running(*command)), "the interrupted action still runs"


def test_a_log_stream_is_read_while_it_is_written(bgd: Bgd, tmp_path: Path) -> None:
    """bgd counts every line as one byte, so that lines of one character suit everyone."""
    created = bgd("logstream", "create", "builds").stdout
    names = dict(re.findall(r'^(\w+): "(.*)"$', created, re.MULTILINE))
    log = tmp_path / "read.log"
    read = bgd.command("logstream", "read", names["name"])
    environment = client_environment(tmp_path)
    with service(read, log=log, ready=log.exists, environment=environment) as reader:
        bgd("logstream", "write", names["write_resource_name"], stdin="a\nb\nc\n\n")
        assert reader.wait(30) == 0
    assert log.read_text() == "abc"
