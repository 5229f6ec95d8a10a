"""How often a fault is repeated, and by which chance: the same for all tests of faults."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence


def rounds(sample: int) -> int:
    """`sample` by default; DISTBUILD_FAULT_ROUNDS=200 is the whole run, which takes minutes."""
    return int(os.environ.get("DISTBUILD_FAULT_ROUNDS", sample))


def kinds(sample: int, of: Sequence[str]) -> Sequence[str]:
    """The first `sample` kinds of a fault by default, all of them in the whole run."""
    return of if "DISTBUILD_FAULT_ROUNDS" in os.environ else of[:sample]


def chance() -> random.Random:
    """Random numbers whose seed is printed, and taken from DISTBUILD_FAULT_SEED where set."""
    seed = int(os.environ.get("DISTBUILD_FAULT_SEED", time.time_ns() % 10**6))
    print(f"DISTBUILD_FAULT_SEED={seed}")
    return random.Random(seed)
