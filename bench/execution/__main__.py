"""Prints the figures of remote execution: `python -m bench.execution [--save] [--quick]`."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

from bench.execution.dispatch import dispatch_figures, queue_figures
from bench.execution.real_workers import input_figures, worker_figures
from bench.figures import print_beside

KEPT = Path(__file__).parent / "kept.json"


def main() -> int:
    """Measure; 1 when a figure is a third worse than the one kept."""
    parser = argparse.ArgumentParser(prog="bench.execution", description=__doc__)
    parser.add_argument("--save", action="store_true", help=f"keep the figures in {KEPT.name}")
    parser.add_argument("--only", default="", help="dispatch, queue, workers or inputs")
    parser.add_argument("--actions", type=int, default=2000, help="actions a measurement")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        parts = {
            "dispatch": dispatch_figures(directory, parsed.actions),
            "queue": queue_figures(directory),
            "workers": worker_figures(directory, parsed.actions // 4),
            "inputs": input_figures(directory),
        }
        chosen = [parts[parsed.only]] if parsed.only else parts.values()
        holds = print_beside(itertools.chain.from_iterable(chosen), KEPT, keeps=parsed.save)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
