"""How a slot talks to the scheduler, and what it shows of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from remote_apis.client.settings import RetryPolicy
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """One slot's side of the worker protocol. Times in seconds.

    `worker` is the name in messages, `worker_id` what tells the slot from all others.
    """

    worker: str
    slot: int
    worker_id: Mapping[str, str]
    instance_prefix: str = ""
    platform: re_pb.Platform = field(default_factory=re_pb.Platform)
    # The scheduler's clock may be wrong: it makes a slot neither silent nor talkative for long.
    longest_silence: float = 15.0
    shortest_silence: float = 0.25
    # Pause when a scheduler without work answers at once and not when there is some.
    shortest_poll: float = 0.02
    # A stage over sooner is not reported: most are, nobody could see it, and a report is a call.
    stage_delay: float = 0.1
    long_poll: float = 300.0
    call_timeout: float = 30.0
    goodbye_timeout: float = 2.0
    # A slot that lacked room leaves work to others for so long: an action has few attempts.
    rest_without_room: float = 5.0
    # How long a draining slot tries to get rid of its last result.
    drain_patience: float = 30.0
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(first_delay=0.1, max_delay=3.0))


@dataclass(slots=True)
class SlotState:
    """What a slot is doing, for the health page."""

    action: str = ""
    stage: str = "idle"
    finished: int = 0
    is_connected: bool = False
