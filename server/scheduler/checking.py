"""From a worker's report to what the core makes of it."""

from __future__ import annotations

import logging

from remote_apis.errors import DistbuildError
from server.scheduler import retries
from server.scheduler.commands import CheckResult
from server.scheduler.ports import Outcome, ResultKeeper
from server.scheduler.values import Failure

_LOG = logging.getLogger(__name__)


async def verdict_on(command: CheckResult, complete: ResultKeeper) -> bytes | Failure:
    """The response to give out, or why there is none; whatever `complete` raises is a Failure."""
    outcome = Outcome(
        instance=command.instance,
        digest=command.digest,
        do_not_cache=command.do_not_cache,
        worker=command.worker,
        queued_at=command.queued_at,
        response=command.response,
    )
    try:
        return await complete(outcome)
    except DistbuildError as error:
        message = f"the result of worker {command.worker} could not be stored: {error}"
        return Failure(code=retries.UNAVAILABLE, message=message)
    except Exception as error:  # noqa: BLE001 - an operation must not hang on a fault in its check
        _LOG.exception("checking the result of %s failed", command.digest)
        return Failure(code=retries.INTERNAL, message=f"checking the result failed: {error}")
