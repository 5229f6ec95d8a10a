"""The workers of a scheduler, as whoever operates it sees them (our own service)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from remote_apis.client.service import ServiceClient
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2 as w_pb
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2_grpc as w_grpc


class WorkersClient(ServiceClient):
    """All workers, whatever their instances. Other servers raise Unsupported."""

    _stub_class = w_grpc.WorkersStub

    async def list(self) -> Sequence[w_pb.Worker]:
        """The workers that are connected or drained, sorted by name."""
        response: w_pb.ListWorkersResponse = await self._call(
            "listing workers", self._stub.ListWorkers, w_pb.ListWorkersRequest()
        )
        return response.workers

    async def drain(self, names: Iterable[str]) -> Sequence[w_pb.Worker]:
        """Give workers nothing more; they finish what they run. Returns them as they are now.

        Raises NotFound, with nothing done, when one of the names is unknown.
        """
        response: w_pb.DrainWorkersResponse = await self._call(
            "draining", self._stub.DrainWorkers, w_pb.DrainWorkersRequest(names=names)
        )
        return response.workers

    async def resume(self, names: Iterable[str]) -> Sequence[w_pb.Worker]:
        """Undo `drain`. Returns the workers as they are now. Raises the same."""
        response: w_pb.ResumeWorkersResponse = await self._call(
            "resuming", self._stub.ResumeWorkers, w_pb.ResumeWorkersRequest(names=names)
        )
        return response.workers
