"""`make demo`: two developers, two workers, one server; every step is a command a user would type.

Exits 0 only if the first build ran on both workers and the second was hits alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
START_TIMEOUT = 60


def start_server(directory: Path) -> tuple[subprocess.Popen[str], str]:
    """`distbuild serve` with two workers; its process and address."""
    process = subprocess.Popen(
        [BIN / "distbuild", "serve", "--listen", "127.0.0.1:0", "--workers", "2",
         "--data-dir", directory / "server"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        sys.exit("the server did not start; its reason stands above")
    print(line, flush=True)
    return process, next(word for word in line.split() if word.startswith("grpc://"))


def build(developer: str, checkout: Path, directory: Path, server: str) -> dict[str, Any]:
    """`cargo distbuild build` of a copy of the example, as a developer of that name."""
    shutil.copytree(
        REPOSITORY / "examples" / "workspace", checkout, ignore=shutil.ignore_patterns("target")
    )
    environment = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "CARGO_HOME": str(directory / f"cargo-{developer}"),
        "DISTBUILD_HOME": str(directory / f"home-{developer}"),
        "DISTBUILD_REMOTE": server,
    }
    environment.pop("CARGO_TARGET_DIR", None)
    print(f"\n{developer} builds {checkout}", flush=True)
    command = ["cargo", "distbuild", "build", "--jobs", "2"]
    try:
        subprocess.run(command, cwd=checkout, env=environment, check=True)
        stats = subprocess.run(
            ["cargo", "distbuild", "stats", "--json"],
            cwd=checkout, env=environment, check=True, stdout=subprocess.PIPE,
        )  # fmt: skip
    finally:
        subprocess.run([BIN / "cargo-distbuild", "stop"], env=environment, check=True)
    return dict(json.loads(stats.stdout))


def where(unit: dict[str, Any]) -> str:
    """The worker's name, `cache` or `local`."""
    if unit["outcome"] == "remote":
        return str(unit["worker"])
    return "cache" if unit["outcome"].startswith("hit") else "local"


def show(title: str, data: dict[str, Any]) -> None:
    """A table of units and the totals of one build."""
    print(f"\n{title}\n  {'unit':<15} {'kind':<13} {'where':<10} seconds")
    for unit in data["units"]:
        print(f"  {unit['crate']:<15} {unit['kind']:<13} {where(unit):<10} {unit['seconds']:7.2f}")
        if unit["reason"]:
            print(f"    compiled here: {unit['reason']}")
    totals = data["totals"]
    hits = totals["hit-local"] + totals["hit-remote"]
    print(
        f"  {totals['units']} units: {totals['remote']} on workers, {hits} from the cache, "
        f"{totals['local']} local, {totals['seconds']:.2f} s in all"
    )


def main() -> int:
    """Run the demonstration."""
    with tempfile.TemporaryDirectory(prefix="distbuild-demo-") as name:
        directory = Path(name)
        process, server = start_server(directory)
        try:
            first = build("alice", directory / "alice" / "workspace", directory, server)
            program = directory / "alice" / "workspace" / "target" / "debug" / "main-binary"
            print(f"\n{program.name} says:", flush=True)
            subprocess.run([program], check=True)
            second = build("bob", directory / "bob" / "another" / "place", directory, server)
        finally:
            process.terminate()
            process.wait(START_TIMEOUT)
    show("first build (alice)", first)
    show("second build (bob: another directory, CARGO_HOME and local cache)", second)
    workers = {unit["worker"] for unit in first["units"] if unit["outcome"] == "remote"}
    if len(workers) < 2:
        print(f"FAILED: the first build ran on {sorted(workers) or 'no worker'}, not on both")
        return 1
    if any(where(unit) != "cache" for unit in second["units"]) or not second["units"]:
        print("FAILED: the second build was not hits alone")
        return 1
    print("\nok: both workers compiled, and the second developer compiled nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
