"""An action that the scheduler gave to this worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp

from remote_apis.client.settings import Metadata, request_metadata
from remote_apis.digest import Digest, function_of_request
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from worker.live_output import take_streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What DesiredState.Executing says. All digests of the action have the function of its own."""

    action_digest: Digest
    instance: str = ""
    action: re_pb.Action | None = None
    queued: Timestamp = field(default_factory=Timestamp)
    auxiliary: Sequence[AnyMessage] = ()
    streams: Sequence[AnyMessage] = ()
    """Log streams for stdout and stderr, if the scheduler has any."""
    headers: Metadata = ()

    def digest_of(self, message: re_pb.Digest) -> Digest:
        """A digest inside the action. Raises InvalidRequest."""
        return Digest.from_message(message, self.action_digest.function)


def parse_assignment(desired: rw_pb.DesiredState.Executing, instance_prefix: str) -> Assignment:
    """Check and convert the scheduler's message. Raises InvalidRequest."""
    function = function_of_request(
        desired.digest_function, [desired.action_digest.hash], list(DigestFunction)
    )
    auxiliary, streams = take_streams(desired.auxiliary_metadata)
    parts = [part for part in (instance_prefix, desired.instance_name_suffix) if part]
    return Assignment(
        action_digest=Digest.from_message(desired.action_digest, function),
        instance="/".join(parts),
        action=desired.action if desired.HasField("action") else None,
        queued=desired.queued_timestamp,
        auxiliary=auxiliary,
        streams=streams,
        headers=_headers(desired),
    )


def _headers(desired: rw_pb.DesiredState.Executing) -> Metadata:
    """The client's RequestMetadata and the trace, to go with every call for this action."""
    headers: Metadata = tuple(sorted(desired.w3c_trace_context.items()))
    for detail in desired.auxiliary_metadata:
        metadata = re_pb.RequestMetadata()
        if detail.Unpack(metadata):
            headers += request_metadata(metadata)
    return headers
