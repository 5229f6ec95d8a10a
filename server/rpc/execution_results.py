"""Takes results from workers: believed only when everything they name is there."""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, DistbuildError, InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.completeness import first_missing
from server.actioncache.interface import ActionCache, ActionKey
from server.blobstore.interface import BlobStore, read_all
from server.rpc.result_checks import check_result
from server.scheduler.ports import Outcome
from server.scheduler.retries import DATA_LOSS, INTERNAL
from server.scheduler.values import Failure

_LOG = logging.getLogger(__name__)
_LAST_CODE = 16


class ResultRecorder:
    """The scheduler's ResultKeeper.

    A result with status OK and exit code 0 is in the ActionCache before clients learn of it, unless
    the action says do_not_cache (REAPI 2.12 ExecuteResponse.status, Action.do_not_cache). A failed
    command is given out and not cached. A result that is malformed, or that names a blob that is
    not there, is refused.
    """

    def __init__(self, store: BlobStore, cache: ActionCache) -> None:
        self._store = store
        self._cache = cache

    async def __call__(self, outcome: Outcome) -> bytes | Failure:
        """The ExecuteResponse to give out, or why the result cannot be believed."""
        try:
            response = re_pb.ExecuteResponse.FromString(outcome.response)
        except DecodeError as error:
            return _refused(outcome, INTERNAL, f"is not an ExecuteResponse: {error}")
        if not 0 <= response.status.code <= _LAST_CODE:
            why = f"has {response.status.code} for a status code"
            return _refused(outcome, INTERNAL, why)
        try:
            await self._check(outcome, response.result)
            missing = await first_missing(response.result, outcome.digest.function, self._store)
        except InvalidRequest as error:
            return _refused(outcome, INTERNAL, f"is malformed: {error}")
        is_ok = response.status.code == 0
        if is_ok and not response.HasField("result"):
            return _refused(outcome, INTERNAL, "is empty")
        if missing is not None and is_ok:
            return _refused(outcome, DATA_LOSS, f"names blob {missing}, which is not there")
        if missing is not None:
            # A partial result is a courtesy; one that cannot be read is none.
            response.ClearField("result")
        _complete_metadata(response, outcome)
        if is_ok and not response.result.exit_code and not outcome.do_not_cache:
            await self._store_result(outcome, response.result)
        return response.SerializeToString(deterministic=True)

    async def _check(self, outcome: Outcome, result: re_pb.ActionResult) -> None:
        """Raises InvalidRequest when it is malformed."""
        function = outcome.digest.function
        try:
            check_result(result, function)
        except InvalidRequest as error:
            # A Command may have asked for paths with dots in them.
            try:
                content = await read_all(self._store, outcome.digest)
                digest = re_pb.Action.FromString(content).command_digest
                content = await read_all(self._store, Digest.from_message(digest, function))
                command = re_pb.Command.FromString(content)
            except (BlobNotFound, DecodeError):
                raise error from None
            check_result(result, function, working_directory=command.working_directory)

    async def _store_result(self, outcome: Outcome, result: re_pb.ActionResult) -> None:
        try:
            await self._cache.put(ActionKey(outcome.instance, outcome.digest), result)
        except DistbuildError as error:
            # The client's build must not fail because the next one will be slower.
            _LOG.warning("the result of %s could not be cached: %s", outcome.digest, error)


def _complete_metadata(response: re_pb.ExecuteResponse, outcome: Outcome) -> None:
    response.cached_result = False
    if not response.HasField("result"):
        return
    metadata = response.result.execution_metadata
    metadata.queued_timestamp.FromNanoseconds(outcome.queued_at)
    if not metadata.worker:
        metadata.worker = outcome.worker


def _refused(outcome: Outcome, code: int, why: str) -> Failure:
    return Failure(code=code, message=f"the result from worker {outcome.worker} {why}")
