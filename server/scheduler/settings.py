"""How patient the scheduler is. All times are seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """Limits of the core; the defaults suit one site with workers on a good network."""

    busy_interval: float = 10.0
    """A worker that runs an action reports at least this often."""
    poll_interval: float = 20.0
    """How long the synchronisation of an idle worker is held open."""
    worker_lost_after: float = 25.0
    """A worker that is silent for so long has lost its lease, from before a restart as well."""
    stall: float = 2.0
    """A Tick that is late by more tells of a scheduler that stood still, not of silent workers."""
    max_attempts: int = 3
    """How many leases an action gets before it is given up."""
    max_repeats: int = 2
    """How often one worker is told again of a lease that it seems not to know."""
    no_worker_grace: float = 10.0
    """How long an action waits while no worker is known at all, or the scheduler is new."""
    no_match_grace: float = 0.0
    """How long it waits while workers are known but none of them matches."""
    worker_return_grace: float = 60.0
    """How long actions go on waiting for the kind of worker that has just vanished."""
    unattended_grace: float = 60.0
    """How long a queued operation that no client waits for is kept."""
    restored_grace: float = 600.0
    """The same after a restart, when clients have yet to find their way back."""
    retention: float = 300.0
    """How long a finished operation can be asked for."""
    max_unfinished: int = 200_000
    """How many operations may be under way; more are refused with RESOURCE_EXHAUSTED."""
    max_finished: int = 10_000
    """How many finished operations are kept at most."""
    max_finished_bytes: int = 64 * 1024 * 1024
    """How much their responses may take in memory."""
