"""Seeded simulations: nothing is lost, doubled or unfair, whatever goes wrong."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from server.scheduler.settings import SchedulerSettings
from tests.scheduler.simulation import simulate
from tests.scheduler.world import Plan

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "24"))
"""More of them find rarer faults; CI runs what takes a few seconds."""
PATIENT = SchedulerSettings(no_worker_grace=100.0, no_match_grace=100.0)


def plan_of(seed: int) -> Plan:
    """Worlds of many kinds."""
    chance = random.Random(seed)
    return Plan(
        workers=chance.choice([3, 6, 12]),
        clients=chance.choice([20, 40]),
        actions=chance.choice([3, 20, 10**6]),
        do_not_cache=chance.choice([0, 0.1, 0.8]),
        run_time=chance.choice([(0.01, 1.0), (0.05, 60.0)]),
        arrivals_within=chance.choice([1.0, 60.0, 200.0]),
        lost_message=chance.choice([0, 0.05, 0.3]),
        broken_stream=chance.choice([0, 0.3, 0.9]),
        worker_deaths=chance.choice([0, 5, 20]),
        worker_pauses=chance.choice([0, 5, 20]),
        worker_drains=chance.choice([0, 5, 40]),
        worker_faults=chance.choice([0, 0.05, 0.3]),
        restarts=chance.choice([0, 3, 10]),
        refused_results=chance.choice([0, 0.05, 0.4]),
        cancelled=chance.choice([0, 0.1, 0.5]),
        settings=SchedulerSettings(
            no_worker_grace=100.0,
            no_match_grace=100.0,
            unattended_grace=chance.choice([5.0, 60.0]),
            max_attempts=chance.choice([1, 3, 6]),
        ),
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_client_is_answered_once_whatever_fails(seed: int) -> None:
    simulate(seed, plan_of(seed))


def test_a_big_pool_with_faults() -> None:
    plan = Plan(
        workers=1000,
        clients=3000,
        actions=2500,
        arrivals_within=20.0,
        run_time=(0.05, 20.0),
        worker_deaths=300,
        worker_pauses=100,
        restarts=2,
        faults_until=60.0,
        check_every=2000,
        settings=PATIENT,
    )
    simulate(7, plan)


def test_two_invocations_get_equal_shares_whatever_they_have_queued() -> None:
    plan = Plan(
        workers=20,
        clients=1500,
        actions=100_000,
        invocations=(4, 1),
        priorities=(0,),
        do_not_cache=0,
        run_time=(1.0, 30.0),
        arrivals_within=1.0,
        faults_until=0,
        restarts=0,
        worker_deaths=0,
        worker_pauses=0,
        worker_drains=0,
        cancelled=0,
        check_every=5000,
        settings=SchedulerSettings(
            no_worker_grace=100.0, no_match_grace=100.0, unattended_grace=1e6
        ),
    )
    simulation = simulate(1, plan)
    sizes = Counter(client.spec.invocation for client in simulation.clients)
    while_both_had_work = simulation.starts[: 2 * min(sizes.values()) - 100]
    starts = Counter(invocation for _, invocation in while_both_had_work)
    shares = [count / len(while_both_had_work) for count in starts.values()]
    assert shares == pytest.approx([0.5, 0.5], abs=0.05)


def test_invocations_get_equal_shares_whatever_fails() -> None:
    plan = Plan(
        workers=9,
        clients=300,
        actions=10**9,
        invocations=(6, 1, 1),
        priorities=(0,),
        do_not_cache=0,
        run_time=(1.0, 20.0),
        arrivals_within=1.0,
        faults_until=200.0,
        restarts=2,
        worker_deaths=20,
        worker_pauses=10,
        worker_drains=20,
        cancelled=0,
        settings=PATIENT,
    )
    contested = simulate(5, plan).contested
    shares = [count / contested.total() for count in contested.values()]
    assert contested.total() > 60
    assert shares == pytest.approx([1 / 3] * 3, rel=0.1)


def test_many_that_are_cancelled_while_they_wait() -> None:
    plan = Plan(
        workers=3,
        clients=400,
        actions=10**9,
        cancelled=0.8,
        arrivals_within=1.0,
        run_time=(0.05, 5.0),
        check_every=3,
        settings=PATIENT,
    )
    simulate(11, plan)


def test_the_same_seed_gives_the_same_world() -> None:
    first, second = simulate(3), simulate(3)
    assert (first.events, first.world.now) == (second.events, second.world.now)
    assert [client.answer for client in first.clients] == [
        client.answer for client in second.clients
    ]
