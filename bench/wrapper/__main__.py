"""Builds the same workspaces with cargo distbuild, sccache, kache and plain cargo in turn.

Prints wall time and CPU time, all daemons counted, and how ours stand to the aims. A peer is taken
from PATH, or from SCCACHE and KACHE, and left out where it is not installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.wrapper.processes import Cost, Failed, adopt_orphans
from bench.wrapper.results import PRIMED, keep, load, markdown, summarize, table, verdicts
from bench.wrapper.scenarios import BEGUN_WITH_NOTHING, SCENARIOS, Bench, make_bench
from bench.wrapper.tools import Tool, bare_environment, find_tools
from bench.wrapper.workspaces import WORKSPACES, Workspace, copy_tree, fetch

KEPT = Path(__file__).parent / "kept.json"
PAGE = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- bench-wrapper -->", "<!-- /bench-wrapper -->"
_PRIMER = '[package]\nname = "primer"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n'
Costs = dict[tuple[str, str], dict[str, list[Cost]]]


def main() -> int:
    """Measure; 1 when an aim is missed."""
    options = _options()
    if options.markdown:
        _write_page()
        return 0
    tools, lacking = find_tools()
    for line in lacking:
        print(line)
    wanted = _Wanted(options.only)
    print(f"{_about(options.rounds)}; load {os.getloadavg()[0]:.1f}", flush=True)
    adopt_orphans()
    costs: Costs = {}
    with ExitStack() as stack:
        directory = options.directory
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        for workspace in WORKSPACES:
            chosen = [t for t in tools if wanted.scenarios(workspace.name, t.name)]
            if chosen:
                _measure(workspace, chosen, wanted, options, directory, costs)
    rows = {key: {t: summarize(c) for t, c in row.items()} for key, row in costs.items()}
    for line in table(rows):
        print(line)
    if options.save:
        keep(KEPT, rows, _about(options.rounds))
    judged = (v for (_, scenario), row in rows.items() for v in verdicts(scenario, row).values())
    return int(any(each.is_missed for each in judged))


def _empty(text: str) -> Path:
    path = Path(text).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise argparse.ArgumentTypeError(f"{path} is not an empty directory")
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.wrapper", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="builds a figure; default 5")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SCENARIO/WORKSPACE/TOOL",
        help="some of it; any part may be left empty, as in warm/ripgrep or //kache",
    )  # fmt: skip
    parser.add_argument(
        "--primed", action="store_true",
        help="begin builds with an empty cache with a daemon that has built another, empty crate",
    )  # fmt: skip
    parser.add_argument(
        "--directory", type=_empty, help="an empty directory to work in, left as it is in the end"
    )
    parser.add_argument("--save", action="store_true", help=f"keep the medians in {KEPT.name}")
    parser.add_argument(
        "--markdown", action="store_true", help=f"put the kept medians into {PAGE.name}, no more"
    )
    return parser.parse_args()


class _Wanted:
    """What `--only` names; everything when it names nothing."""

    def __init__(self, patterns: Sequence[str]) -> None:
        known = (set(SCENARIOS), {w.name for w in WORKSPACES}, None)
        self._patterns = [[*pattern.split("/"), "", ""][:3] for pattern in patterns]
        for pattern in self._patterns:
            for part, names in zip(pattern, known, strict=True):
                if part and names is not None and part not in names:
                    raise SystemExit(f"{part} is none of {', '.join(sorted(names))}")

    def scenarios(self, workspace: str, tool: str) -> list[str]:
        """The scenarios to measure of a tool in a workspace, in their order."""
        if not self._patterns:
            return list(SCENARIOS)
        return [
            scenario
            for scenario in SCENARIOS
            if any(
                s in ("", scenario) and w in ("", workspace) and t in ("", tool)
                for s, w, t in self._patterns
            )
        ]


def _measure(
    workspace: Workspace,
    tools: Sequence[Tool],
    wanted: _Wanted,
    options: argparse.Namespace,
    directory: Path,
    costs: Costs,
) -> None:
    """All rounds of one workspace; in each, every tool has its turn, and another begins."""
    cargo_homes = directory / "cargo", directory / "elsewhere" / "cargo home"
    environment = bare_environment(directory, cargo_homes[0])
    sources = fetch(workspace, directory / "sources", environment)
    copy_tree(cargo_homes[0], cargo_homes[1])
    primer = _primer(directory) if options.primed else None
    with ExitStack() as stack:
        benches: list[Bench] = []
        for tool in tools:
            bench = make_bench(
                tool, workspace, directory=directory, sources=sources, cargo_homes=cargo_homes,
                primer=primer, sharing=stack,
            )  # fmt: skip
            stack.callback(bench.close)
            benches.append(bench)
        for number in range(options.rounds):
            first = number % len(benches)
            for bench in benches[first:] + benches[:first]:
                for scenario in wanted.scenarios(workspace.name, bench.tool.name):
                    found = SCENARIOS[scenario](bench)
                    if not found:
                        continue
                    name = scenario
                    if primer is not None and scenario in BEGUN_WITH_NOTHING:
                        name += PRIMED
                    row = costs.setdefault((workspace.name, name), {})
                    row.setdefault(bench.tool.name, []).extend(found)
                    print(_progress(number, workspace.name, scenario, bench.tool, found[-1]))


def _progress(number: int, workspace: str, scenario: str, tool: Tool, cost: Cost) -> str:
    name = f"{scenario}/{workspace}/{tool.name}"
    return f"  round {number + 1} {name:32} {cost.wall:8.3f} s wall {cost.user:8.3f} s user"


def _primer(directory: Path) -> Path:
    primer = directory / "primer"
    (primer / "src").mkdir(parents=True, exist_ok=True)
    (primer / "src" / "lib.rs").write_text("")
    (primer / "Cargo.toml").write_text(_PRIMER)
    return primer


def _about(rounds: int) -> str:
    """The machine and the compiler."""
    rustc = subprocess.check_output(["rustc", "--version"], text=True).split()[1]
    cores = os.cpu_count()
    return (
        f"{cores} cores, {platform.system()} {platform.machine()}, rustc {rustc}, {rounds} rounds"
    )


def _write_page() -> None:
    """Put the kept results between the page's marks."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    lines = "\n".join(markdown(*load(KEPT)))
    PAGE.write_text(f"{before}{_BEGIN}\n\n{lines}\n\n{_END}{after}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"error: {error}")
