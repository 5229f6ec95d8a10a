"""What goes on remotely, in the terminal's title while cargo runs.

cargo owns the last line of the terminal: it draws its bar there, and clears that one line before it
prints anything. A second writer of lines would be drawn over or leave its rest behind, so this one
writes none: a title (OSC 2) moves no cursor and takes no place. The title before is put back from
the terminal's own stack (CSI 22;2 t and 23;2 t). cargo itself uses OSC 9;4 where it is understood.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from wrapper.wording import counted

INTERVAL = 0.3
_NAMED = 3
_PUSH, _POP = "\x1b[22;2t", "\x1b[23;2t"


def is_wanted(stream: TextIO, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether to say anything: on a terminal, to somebody who wants to see progress."""
    return (
        stream.isatty()
        and environment.get("DISTBUILD_LIVE", "true") == "true"
        and environment.get("TERM", "dumb") not in ("dumb", "linux")
        and environment.get("CARGO_TERM_PROGRESS_WHEN") != "never"
        and not environment.get("CI")
        and not is_quiet(arguments, environment)
    )


def is_quiet(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether cargo has been told to say nothing of its own."""
    cargos = arguments[: arguments.index("--")] if "--" in arguments else arguments
    is_set = environment.get("CARGO_TERM_QUIET", "false") == "true"
    return is_set or not {"-q", "--quiet"}.isdisjoint(cargos)


class Progress:
    """Units by what has been read of a build's statistics so far."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()

    def add(self, line: Mapping[str, Any]) -> None:
        """One line of the file (see `wrapper.stats`)."""
        if "executing" in line:
            self._running[line["executing"]] += 1
        elif "outcome" in line:
            self._ended[line["outcome"]] += 1
            self._running[line["crate"]] -= line.get("executions", 0)

    def title(self) -> str | None:
        """`distbuild: 3 on workers (serde, syn, toml), 41 hits`; None without remote work."""
        running = +self._running
        if not running:
            return None
        names = ", ".join(sorted(running)[:_NAMED]) + (", …" if len(running) > _NAMED else "")
        hits = self._ended["hit-local"] + self._ended["hit-remote"]
        on_workers = f"{running.total()} on workers ({names})"
        return _printable(f"distbuild: {on_workers}, {counted(hits, 'hit')}")


class LiveTitle:
    """A context manager around cargo: follows the build's file in a thread of its own."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self._path = path
        self._stream = stream
        self._progress = Progress()
        self._shown: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._show(None)

    def _follow(self) -> None:
        rest = b""
        with self._path.open("rb") as file:
            while not self._stop.wait(INTERVAL):
                *lines, rest = (rest + file.read()).split(b"\n")
                for line in lines:
                    self._progress.add(json.loads(line))
                self._show(self._progress.title())

    def _show(self, title: str | None) -> None:
        if title == self._shown:
            return
        text = "" if self._shown is not None or title is None else _PUSH
        text += _POP if title is None else f"\x1b]2;{title}\x1b\\"
        self._shown = title
        # one write: nothing of cargo's can come in between
        self._stream.write(text)
        self._stream.flush()


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
