"""Run one fuzz target, led by coverage.

`python -m tests.fuzz.run_atheris NAME [libFuzzer option…]`

Needs `pip install atheris`. An input that fails is left in the current directory; add it to SEEDS
or write a test with it.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")  # not among the dependencies of the tests

with atheris.instrument_imports(include=["remote_apis", "server"]):
    from tests.fuzz.targets import SEEDS, TARGETS


def main() -> None:
    """Fuzz until interrupted or an option such as -max_total_time=60 ends it."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"usage: run_atheris NAME, one of {', '.join(TARGETS)}")
    name = sys.argv[1]
    with tempfile.TemporaryDirectory() as corpus:
        Path(corpus, "seed").write_bytes(SEEDS[name])
        atheris.Setup([sys.argv[0], corpus, *sys.argv[2:]], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
