"""The same mutations through cargo distbuild, sccache and kache: how often each differs from cargo.

`PYTHONPATH=tests/support python -m tests.mutations.peers [COUNT] [--only NAME…]`; a peer is found
on PATH or named by SCCACHE or KACHE, and left out where it is not installed. Behaviour alone is
compared. The table goes to stdout, every difference to stderr. What a builder does otherwise before
anything is changed (kache has another path in file!()) is told once and not counted again.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from developers import developer
from rounds import chance as seeded_chance
from running import running_server

from tests.mutations.builders import Builder, Distbuild, Plain, kache, sccache
from tests.mutations.mutation import Mutation
from tests.mutations.suite import MUTATIONS, Difference, Suite

_FACT = re.compile(r"(\w+\.\w+)=([^;']*)")


def facts_of(difference: Difference) -> set[str]:
    """The names of the facts that differ, or whole lines that name none."""
    found: set[str] = set()
    for line in difference.what:
        expected, _, here = line.partition(" expected, ")
        names = {name for name, _ in set(_FACT.findall(expected)) ^ set(_FACT.findall(here))}
        found |= names or {line}
    return found


def beyond_usual(found: Sequence[Difference]) -> tuple[list[Difference], dict[str, set[str]]]:
    """Differences that come of a change, and by builder the facts that differ without one."""
    usual: dict[str, set[str]] = {}
    for each in found:
        if each.step == "at first":
            usual.setdefault(each.builder, set()).update(facts_of(each))
    caused = [
        each
        for each in found
        if each.step != "at first" and not facts_of(each) <= usual.get(each.builder, set())
    ]
    return caused, usual


def table(
    builders: Sequence[str], mutations: Sequence[Mutation], found: Sequence[Difference]
) -> str:
    """Mutations with a difference a builder, in Markdown, and which they were."""
    found, usual = beyond_usual(found)
    lines = [
        f"| of {len(mutations)} mutations | wrong after the change | wrong after it was undone |",
        "|---|---|---|",
    ]
    wrong: dict[str, list[str]] = {}
    for builder in builders:
        own = [each for each in found if each.builder == builder]
        changed = {each.mutation for each in own if "back" not in each.step}
        undone = {each.mutation for each in own if "back" in each.step}
        lines.append(f"| {builder} | {len(changed)} | {len(undone)} |")
        for name in changed | undone:
            wrong.setdefault(name, []).append(builder)
    lines += ["", *(f"From the start {who}: {sorted(facts)}" for who, facts in usual.items())]
    lines += ["", *(f"- {name}: {', '.join(who)}" for name, who in sorted(wrong.items()))]
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run and print the table; 1 when cargo distbuild differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=len(MUTATIONS))
    parser.add_argument("--only", nargs="+", help="names of mutations")
    options = parser.parse_args(arguments)
    chance = seeded_chance()
    chosen = [m for m in MUTATIONS if not options.only or m.name in options.only]
    chosen = chance.sample(chosen, min(options.count, len(chosen)))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_server(directory / "server", "--workers", "1"))
        people = {
            name: stack.enter_context(developer(directory / "homes" / name, server.url))
            for name in ("alice", "bob")
        }
        builders: list[Builder] = [Distbuild(people)]
        for peer in (sccache, kache):
            builder = stack.enter_context(peer(directory / peer.__name__))
            if builder is not None:
                builders.append(builder)
        suite = Suite(
            directory=directory / "scene",
            candidates=builders,
            plain=Plain(directory / "plain"),
            fresh=None,
            chance=chance,
            note=_say,
        )
        found = suite.run(chosen)
    print(table([builder.name for builder in builders], chosen, found))
    return int(any(each.builder == "distbuild" for each in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
