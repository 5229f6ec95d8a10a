"""The terminal's title while workers compile."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from wrapper.cli.live import LiveTitle, Progress, is_wanted

TERMINAL = {"TERM": "xterm-256color"}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["build"], TERMINAL | {"CI": "true"}),
        (["build"], TERMINAL | {"CARGO_TERM_PROGRESS_WHEN": "never"}),
        (["build"], TERMINAL | {"CARGO_TERM_QUIET": "true"}),
        (["build"], TERMINAL | {"DISTBUILD_LIVE": "false"}),
        (["build"], {"TERM": "dumb"}),
        (["build"], {}),
        (["build", "-q"], TERMINAL),
        (["--quiet", "build"], TERMINAL),
    ],
)
def test_nobody_wants_it(arguments: list[str], environment: dict[str, str]) -> None:
    assert not is_wanted(Terminal(), arguments, environment)


def test_somebody_wants_it() -> None:
    assert is_wanted(Terminal(), ["run", "--", "-q"], TERMINAL)
    assert not is_wanted(io.StringIO(), ["build"], TERMINAL)


def ended(crate: str, outcome: str, executions: int = 0) -> dict[str, object]:
    return {"crate": crate, "outcome": outcome, "executions": executions}


def test_what_is_under_way() -> None:
    progress = Progress()
    assert progress.title() is None
    progress.add(ended("a", "hit-local"))
    assert progress.title() is None
    for crate in ("b", "c", "c", "d", "e"):
        progress.add({"executing": crate})
    assert progress.title() == "distbuild: 5 on workers (b, c, d, …), 1 hit"
    progress.add(ended("c", "hit-remote"))  # another unit of the package, which was a hit
    assert progress.title() == "distbuild: 5 on workers (b, c, d, …), 2 hits"
    for crate in ("b", "c", "c", "e"):
        progress.add(ended(crate, "remote", 1))
    assert progress.title() == "distbuild: 1 on workers (d), 2 hits"
    progress.add(ended("d", "local", 1))
    assert progress.title() is None


def test_names_cannot_end_the_title() -> None:
    progress = Progress()
    progress.add({"executing": "a\x1b\\\x07b"})
    assert progress.title() == "distbuild: 1 on workers (a\\b), 0 hits"


def write(path: Path, line: dict[str, object]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def wait_for(terminal: Terminal, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in terminal.getvalue():
        assert time.monotonic() < deadline, terminal.getvalue()
        time.sleep(0.02)


def test_the_title_before_is_put_back(tmp_path: Path) -> None:
    path, terminal = tmp_path / "b.jsonl", Terminal()
    path.touch()
    title = "\x1b[22;2t\x1b]2;distbuild: 1 on workers (a), 0 hits\x1b\\"
    with LiveTitle(path, terminal):
        write(path, {"executing": "a"})
        wait_for(terminal, title)
        write(path, ended("a", "remote", 1))
        wait_for(terminal, "\x1b[23;2t")
        write(path, {"executing": "a"})
        wait_for(terminal, title + "\x1b[23;2t" + title)
    assert terminal.getvalue() == (title + "\x1b[23;2t") * 2


def test_nothing_is_written_without_remote_work(tmp_path: Path) -> None:
    path, terminal = tmp_path / "b.jsonl", Terminal()
    write(path, ended("a", "local"))
    with LiveTitle(path, terminal):
        pass
    assert terminal.getvalue() == ""
