"""Policy: when two requests share one execution.

Equal actions (same instance name, same action digest) run once, and every request gets an
operation of its own. An action marked do_not_cache never shares (REAPI 2.12 Action.do_not_cache).
A request with skip_cache_lookup may share with what is in flight: the result was not visible
before it (REAPI 2.12 ExecuteRequest.skip_cache_lookup).
"""

from __future__ import annotations

from typing import NamedTuple

from remote_apis.digest import PackedDigest
from server.scheduler.values import ExecuteSpec


class ExecutionKey(NamedTuple):
    """What requests must have in common to share an execution."""

    instance: str
    digest: PackedDigest


def sharing_key(spec: ExecuteSpec) -> ExecutionKey | None:
    """The key under which the request may share, or None when it must run by itself."""
    if spec.do_not_cache:
        return None
    return ExecutionKey(spec.requirement.instance, spec.packed_digest)
