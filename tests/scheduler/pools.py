"""What pools of different sizes make of the same load, for docs/scheduler.md.

`python -m tests.scheduler.pools` prints the table.
"""

from __future__ import annotations

import time

from server.scheduler.settings import SchedulerSettings
from tests.scheduler.simulation import simulate
from tests.scheduler.world import Plan

OPERATIONS = 20_000
RUN_TIME = (0.5, 9.5)
ARRIVALS = 10.0


def row(workers: int) -> str:
    """One line of the table."""
    patient = SchedulerSettings(
        no_worker_grace=1e6, no_match_grace=1e6, unattended_grace=1e6, retention=1e6
    )
    plan = Plan(
        workers=workers,
        clients=OPERATIONS,
        actions=10**9,
        do_not_cache=0,
        priorities=(0,),
        run_time=RUN_TIME,
        arrivals_within=ARRIVALS,
        faults_until=0,
        restarts=0,
        worker_deaths=0,
        worker_pauses=0,
        worker_drains=0,
        clock_jumps=0,
        cancelled=0,
        check_every=10**9,
        settings=patient,
    )
    began = time.process_time()
    simulation = simulate(1, plan)
    spent = time.process_time() - began
    waited = sorted(delay for delay, _ in simulation.starts)
    ideal = OPERATIONS * sum(RUN_TIME) / 2 / workers
    median, late = waited[len(waited) // 2], waited[len(waited) * 99 // 100]
    cells = (
        f"{workers:,}",
        f"{simulation.world.now:,.0f} s",
        f"{max(ideal, ARRIVALS + RUN_TIME[1]):,.0f} s",
        f"{median:,.2f} s",
        f"{late:,.2f} s",
        f"{1e6 * spent / simulation.events:.0f} µs",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for size in (10, 100, 1_000, 10_000):
        print(row(size), flush=True)
