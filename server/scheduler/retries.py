"""Policy: when an action is given to another worker, and when it is given up.

Losing a worker is nobody's proof against an action, so it runs again; an action that takes its
workers down must not take all of them, so the leases it may have are counted. What a worker
reports as the action's own fault (a missing input, a timeout, a bad command) is final.
"""

from __future__ import annotations

from server.scheduler.values import Failure

CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 1, 2, 4, 8
FAILED_PRECONDITION, ABORTED, INTERNAL, UNAVAILABLE, DATA_LOSS = 9, 10, 13, 14, 15

WORKER_FAULTS = frozenset(
    {CANCELLED, UNKNOWN, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE, DATA_LOSS}
)
"""Status codes that say more of the worker than of the action."""


def is_worker_fault(code: int) -> bool:
    """Whether another worker may do better after this status code (google.rpc.Code)."""
    return code in WORKER_FAULTS


def may_retry(*, attempts: int, limit: int) -> bool:
    """Whether an action that has had so many leases gets one more."""
    return attempts < limit


def given_up(*, attempts: int, reason: Failure) -> Failure:
    """The final status of an action that has had its last lease."""
    return Failure(
        code=reason.code,
        message=f"{reason.message}; given up after {attempts} attempt(s)",
    )


def lost(worker: str, silent_for: float) -> Failure:
    """A lease that ended because its worker fell silent."""
    return Failure(
        code=UNAVAILABLE,
        message=f"worker {worker} was lost: nothing heard of it for {silent_for:.0f} s",
    )


def killed(worker: str) -> Failure:
    """A lease that ended because its worker is known to be dead."""
    return Failure(code=UNAVAILABLE, message=f"worker {worker} is gone")


def dropped(worker: str) -> Failure:
    """A lease that ended because its worker keeps saying that it does nothing."""
    return Failure(code=INTERNAL, message=f"worker {worker} dropped the action without a result")


def reported(worker: str, code: int, message: str) -> Failure:
    """A lease that ended with a fault of the worker's own."""
    return Failure(code=code, message=f"worker {worker}: {message or 'no reason given'}")
