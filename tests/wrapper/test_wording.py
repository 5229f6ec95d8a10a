"""How the commands' output reads."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import OutOfSpace
from wrapper.cli.stats_command import table
from wrapper.cli.why_miss import answer
from wrapper.keys.change import Change
from wrapper.keys.explain import Cause, Comparison, Entry
from wrapper.timings import page
from wrapper.wording import columns, duration, not_kept, size, totals_line, trouble


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 20, "3.0 MiB"), (1 << 40, "1.0 TiB"),
     ((1 << 30) - 1, "1.0 GiB")],
)  # fmt: skip
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12, "12.0 s"), (99.96, "1 min 40 s"), (3725, "1 h 2 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_trouble_of_many_blobs() -> None:
    """It is counted by what it says."""
    for function in DigestFunction:
        blob = Digest.of(b"blob", function)
        assert trouble(OutOfSpace(f"no space is left for blob {blob}")) == "no space is left"
        assert trouble(OutOfSpace(f"no room for blob {blob}: full")) == "no room: full"
    assert trouble(FileNotFoundError(2, "No such file", "/x")) == "/x: No such file"


def test_a_reason_and_why_the_result_is_not_kept() -> None:
    assert not_kept(None, "odd") == not_kept("new: no cache had it", "odd") == "odd"
    assert not_kept("all are busy", "odd") == "all are busy; not kept: odd"


def test_columns() -> None:
    assert columns([("a", "bb", ""), ("ccc", "d", "e")]) == "a    bb\nccc  d   e"
    assert columns([]) == ""


def totals(**values: Any) -> dict[str, Any]:
    names = ("hit-local", "hit-remote", "remote", "local", "units", "downloaded", "uploaded")
    return {**dict.fromkeys(names, 0), "saved": 0.0, "seconds": 1.0} | values


def test_the_line_at_the_end() -> None:
    line = totals_line(totals(**{"units": 3, "hit-local": 2, "local": 1}))
    counted = "3 units: 2 hits (2 local, 0 from the server), 0 on workers, 1 compiled here"
    assert line == counted
    line = totals_line(
        totals(**{"units": 3, "hit-local": 2, "local": 1, "saved": 12.34, "downloaded": 2048})
    )
    assert line == f"{counted}; 12.3 s of compiling saved; 2.0 KiB down, 0 B up"
    line = totals_line(totals(**{"units": 3, "hit-local": 2, "local": 1, "runs": 4, "run_hits": 3}))
    assert line == f"{counted}; 3 of 4 build scripts' runs were known"
    line = totals_line(totals(**{"units": 3, "hit-local": 2, "local": 1, "elsewhere": 1}))
    said = "1 on top of what was built without cargo-distbuild (`cargo clean` ends that)"
    assert line == f"{counted}; {said}"
    line = totals_line(totals(**{"units": 1, "hit-local": 1}))
    assert line.startswith("1 unit: 1 hit (1 local, ")


UNITS: list[dict[str, Any]] = [
    {"crate": "a", "kind": "lib", "outcome": "hit-local", "worker": None, "reason": None,
     "seconds": 0.1, "started": 100.0, "made_in": 1.6},
    {"crate": "<b>", "kind": "lib", "outcome": "remote", "worker": "w&1", "reason": None,
     "seconds": 2.0, "started": 100.5, "made_in": None},
    {"crate": "c", "kind": "bin", "outcome": "local", "worker": None, "reason": "odd <thing>",
     "seconds": 1.0, "started": 101.0, "made_in": None},
]  # fmt: skip
RUN = {**UNITS[2], "kind": "script-run", "crate": "a", "reason": "it opens a network socket"}
DATA: dict[str, Any] = {
    "units": UNITS,
    "runs": [],
    "totals": totals(**{"units": 3, "hit-local": 1, "remote": 1, "local": 1}),
    "reasons": {"odd <thing>": 1},
    "run_reasons": {},
}


def test_the_table_of_a_build() -> None:
    text = table(DATA)
    assert re.search(r"^a +lib +hit-local +0\.10 +1\.50$", text, re.MULTILINE)
    assert re.search(r"^c +bin +local +1\.00 +odd <thing>$", text, re.MULTILINE)
    assert "reasons for compiling here\n1  odd <thing>\n" in text
    text = table({**DATA, "runs": [RUN], "run_reasons": {RUN["reason"]: 1}})
    assert "reasons for running build scripts\n1  it opens a network socket\n" in text
    wanted = r"^a +script-run +local +1\.00 +it opens a network socket$"
    assert re.search(wanted, text, re.MULTILINE)


class Reader(HTMLParser):
    """Checks that elements are closed in order, and collects the bars and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.bars: list[dict[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img")
        if tag == "rect":
            self.bars.append(dict(attrs))
        elif tag not in ("meta", "line", "polygon"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "rect":
            self.bars.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_of_a_build() -> None:
    reader = Reader()
    reader.feed(page(DATA))
    reader.close()
    assert reader.open == []
    places = [(float(bar["x"] or ""), float(bar["width"] or "")) for bar in reader.bars]
    assert places == [(0.0, 40.0), (200.0, 800.0), (400.0, 400.0)]
    assert len({bar["fill"] for bar in reader.bars}) == 3
    for text in ("<b>", "w&1", "odd <thing>", "local hit", "compiled here"):
        assert text in reader.texts


@pytest.mark.parametrize("units", [[], UNITS[:1], UNITS * 100])
def test_the_page_of_any_build(units: list[dict[str, Any]]) -> None:
    reader = Reader()
    reader.feed(page({**DATA, "units": units}))
    assert reader.open == [] and len(reader.bars) == len(units)
    reader = Reader()
    reader.feed(page({**DATA, "units": units, "runs": [RUN]}))
    assert reader.open == [] and len(reader.bars) == len(units) + 1


def entry(**values: Any) -> Entry:
    fields: dict[str, Any] = {
        "id": 1, "directory": "/w/target/debug/deps", "name": "a-1", "crate": "a", "package": "a",
        "form": "lib", "kind": "lib", "action": "sha256:aa/1", "first": 0.0, "last": 100.0,
        "outcome": "local", "worker": None, "reason": "new", "build": "b",
    }  # fmt: skip
    return Entry(**(fields | values))


def said(found: Comparison) -> str:
    return "\n".join(answer(found, 160.0))


def cause(kind: str, name: str, old: str | None, new: str | None, **more: Any) -> Cause:
    return Cause(change=Change(kind=kind, name=name, old=old, new=new), **more)


def test_why_nothing_changed() -> None:
    one = entry()
    assert said(Comparison(entry=entry(outcome="hit-remote"), before=None)) == (
        "a (lib): was a hit (from the server) 1 min 0 s ago".replace("1 min 0 s", "60.0 s")
    )
    assert "never seen before" in said(Comparison(entry=one, before=None))
    assert "got no key" in said(Comparison(entry=entry(action=None), before=None))
    assert "no longer known" in said(Comparison(entry=one, before=one, causes=None))
    assert "the same as 60.0 s ago, which left no result" in said(Comparison(entry=one, before=one))
    there = entry(directory="/other/target/debug/deps")
    assert "60.0 s ago in /other/target/debug, whose result holds the paths there" in said(
        Comparison(entry=one, before=there, is_elsewhere=True, is_of_path=True)
    )


def test_why_something_changed() -> None:
    one = entry(outcome="remote", worker="w-1", reason=None)
    below = Comparison(
        entry=entry(), before=entry(), causes=(cause("environment", "V", "1.0", None),)
    )
    causes = (
        cause("option", "-C opt-level", "0", "3"),
        cause("environment", "V", None, "x" * 500),
        *(cause("source", f"f{i}.rs", "1", "2") for i in range(20)),
        cause("toolchain", "toolchain/bin/rustc", "1", "2"),
        cause("link-set", "p", "1", "2"),
        cause("dependency", "dep", "dep-1", "dep-1", below=below),
        cause("dependency", "gone", "gone-1", None),
        cause("dependency", "known", "known-1", "known-2", is_told=True),
    )
    lines = said(Comparison(entry=one, before=one, causes=causes)).splitlines()
    assert lines[0] == "a (lib): compiled on w-1 60.0 s ago"
    assert lines[1] == "  changed in its key since 60.0 s ago:"
    assert "    option -C opt-level: 0 → 3" in lines
    assert f"    environment V added: {'x' * 120}…" in lines
    assert "    source file f0.rs changed" in lines and "    source file: 12 more" in lines
    assert "    source file f8.rs changed" not in lines
    assert "    linker and C library changed" in lines
    at = lines.index("    dependency dep changed")
    assert lines[at + 1] == "      environment V removed: 1.0"
    assert "    dependency gone removed" in lines
    assert "    dependency known is another unit (known-1 → known-2), see above" in lines
    assert lines[-1] == "  key: sha256:aa/1"


def test_a_dependency_that_came_out_otherwise() -> None:
    below = Comparison(entry=entry(), before=entry())
    found = Comparison(
        entry=entry(), before=entry(), causes=(cause("dependency", "d", "d-1", "d-1", below=below),)
    )
    assert "its key is the same and its output is not: compiled here" in said(found)
