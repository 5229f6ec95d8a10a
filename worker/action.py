"""Running one action, from its digest to its ExecuteResponse."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2

from remote_apis.client.action_cache import ActionCacheClient
from remote_apis.client.cas import CasClient
from remote_apis.early_outputs import VARIABLE
from remote_apis.errors import DistbuildError, FailedPrecondition
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.action_reader import ActionReader, ReadAction
from worker.assignment import Assignment
from worker.cgroup import ControlGroups, beyond_groups
from worker.command import CommandSpec
from worker.config import ResourceLimits, WorkerConfig
from worker.early import EarlyOutputs
from worker.input_root import InputRoot, InputRoots
from worker.job import OnStage, Stage
from worker.live_output import LiveOutput
from worker.materialise import make_output_parents
from worker.output_tree import OutputBlobs
from worker.outputs import collect_outputs, collect_stream
from worker.paths import ActionRoot
from worker.removal import remove_tree
from worker.room import check_room
from worker.sandbox.containers import Containers
from worker.sandbox.interface import Finished, Sandbox, SandboxRequest
from worker.status import is_foreseen, status_of_error
from worker.threads import FEW, in_thread

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What all slots of a worker share."""

    config: WorkerConfig
    reader: ActionReader
    inputs: InputRoots
    containers: Containers
    executor: Executor
    cas: Callable[[Assignment], CasClient]
    early_results: Callable[[Assignment], ActionCacheClient]
    # Set where results are the worker's to write.
    action_cache: Callable[[Assignment], ActionCacheClient] | None = None
    groups: ControlGroups | None = None
    live: LiveOutput | None = None
    now_ns: Callable[[], int] = time.time_ns


class ActionRunner:
    """Runs the actions of one slot, one after the other, each in a fresh directory."""

    def __init__(self, parts: WorkerParts, slot: int) -> None:
        self._parts = parts
        self._slot = slot
        self._name = parts.config.name_of(slot)
        self._directory = parts.config.directory / "slots" / str(slot)
        self._numbers = itertools.count()

    async def run(self, assignment: Assignment, on_stage: OnStage) -> re_pb.ExecuteResponse:
        """The outcome; errors are in its status, with whatever result there is beside them.

        When cancelled, the command is killed first.
        """
        response = re_pb.ExecuteResponse()
        metadata = response.result.execution_metadata
        metadata.worker = self._name
        metadata.queued_timestamp.CopyFrom(assignment.queued)
        metadata.auxiliary_metadata.extend(assignment.auxiliary)
        self._stamp(metadata.worker_start_timestamp)
        directory = self._directory / str(next(self._numbers))
        try:
            directory.mkdir(parents=True)
            await self._run(assignment, on_stage, directory, response)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the client is to learn of it
            if not is_foreseen(error):
                _LOG.exception("action %s failed", assignment.action_digest)
            response.status.CopyFrom(status_of_error(error, self._name))
        finally:
            # Not awaited: the next action need not wait. Closing the worker does.
            self._parts.executor.submit(remove_tree, directory)
        self._stamp(metadata.worker_completed_timestamp)
        return response

    async def _run(
        self,
        assignment: Assignment,
        on_stage: OnStage,
        directory: Path,
        response: re_pb.ExecuteResponse,
    ) -> None:
        parts, metadata = self._parts, response.result.execution_metadata
        cas = parts.cas(assignment)
        on_stage(Stage.FETCHING_INPUTS)
        self._stamp(metadata.input_fetch_start_timestamp)
        read = await parts.reader.read(assignment, cas)
        action, command, wishes = read.action, read.command, read.wishes
        sandbox = await parts.containers.sandbox(wishes)
        root = directory / "root"
        async with (
            self._inputs(read, sandbox, cas, root) as inputs,
            self._live(assignment, directory) as has_ended,
        ):
            inside = sandbox.inside(root, is_file_system=inputs.is_file_system)
            action_root = ActionRoot(root, inside)
            await self._make_parents(command, action_root, sandbox)
            self._stamp(metadata.input_fetch_completed_timestamp)
            on_stage(Stage.RUNNING)
            network = wishes.network and parts.config.allows_network
            request = self._request(command, directory, inputs, network=network)
            async with self._early(assignment, action, command, action_root, request, cas):
                finished = await self._execute(action, sandbox, request, metadata)
            has_ended()
            check_room(directory)
            await inputs.check(metadata.execution_start_timestamp.ToNanoseconds())
            on_stage(Stage.UPLOADING_OUTPUTS)
            response.result.exit_code = finished.exit_code
            await self._upload(command, action_root, directory, assignment, response, cas)
            await inputs.keep()
        self._explain(response, finished, lacked_network=wishes.network and not network)
        if not action.do_not_cache:
            await self._cache(response, assignment)

    def _inputs(
        self, read: ReadAction, sandbox: Sandbox, cas: CasClient, root: Path
    ) -> AbstractAsyncContextManager[InputRoot]:
        owner, directory = sandbox.owner(self._slot), read.command.working_directory
        return self._parts.inputs.open(
            read.input_root, cas, root, owner, working_directory=directory
        )

    async def _make_parents(
        self, command: CommandSpec, action_root: ActionRoot, sandbox: Sandbox
    ) -> None:
        owner = sandbox.owner(self._slot)
        await in_thread(
            self._parts.executor,
            lambda: make_output_parents(command, action_root, owner),
            is_short=len(command.outputs) <= FEW,
        )

    def _explain(
        self, response: re_pb.ExecuteResponse, finished: Finished, *, lacked_network: bool
    ) -> None:
        """Say why the command failed, where that is known."""
        if finished.timed_out:
            response.status.code = code_pb2.DEADLINE_EXCEEDED
            response.status.message = (
                f"worker {self._name}: the command was killed after {finished.seconds:.1f} s"
            )
        elif finished.ran_out_of_memory:
            limit = self._parts.config.limits.memory_bytes
            response.message = f"the command used more than {limit} bytes of memory and was killed"
        elif finished.exit_code and lacked_network:
            response.message = f"worker {self._name} gives no action the network, as this one asked"

    def _live(
        self, assignment: Assignment, directory: Path
    ) -> AbstractAsyncContextManager[Callable[[], None]]:
        if self._parts.live is None:
            return nullcontext(lambda: None)
        return self._parts.live(assignment.streams, directory / "stdout", directory / "stderr")

    def _early(
        self,
        assignment: Assignment,
        action: re_pb.Action,
        command: CommandSpec,
        action_root: ActionRoot,
        request: SandboxRequest,
        cas: CasClient,
    ) -> AbstractAsyncContextManager[None]:
        if VARIABLE not in command.environment:
            return nullcontext()
        early = EarlyOutputs(
            action=action,
            digest=assignment.action_digest,
            command=command,
            root=action_root,
            blobs=self._blobs(assignment, command),
            stdout=request.stdout,
            stderr=request.stderr,
            cas=cas,
            action_cache=self._parts.early_results(assignment),
        )
        return early.watched(partial(in_thread, self._parts.executor))

    def _blobs(self, assignment: Assignment, command: CommandSpec) -> OutputBlobs:
        return OutputBlobs(
            function=assignment.action_digest.function,
            allow_absolute_symlinks=self._parts.config.allow_absolute_symlinks,
            node_properties=command.output_node_properties,
        )

    async def _cache(self, response: re_pb.ExecuteResponse, assignment: Assignment) -> None:
        """Write a result that is worth it to the ActionCache, if that is this worker's to write and
        can be reached."""
        cache = self._parts.action_cache
        if cache is None or response.status.code or response.result.exit_code:
            return
        self._stamp(response.result.execution_metadata.worker_completed_timestamp)
        try:
            await cache(assignment).update(assignment.action_digest, response.result)
        except DistbuildError as error:
            _LOG.warning("action %s: its result is not cached: %s", assignment.action_digest, error)

    def _request(
        self, command: CommandSpec, directory: Path, inputs: InputRoot, *, network: bool
    ) -> SandboxRequest:
        return SandboxRequest(
            slot=self._slot,
            arguments=command.arguments,
            environment=command.environment,
            working_directory=command.working_directory,
            root=directory / "root",
            temporary=directory / "tmp",
            stdout=directory / "stdout",
            stderr=directory / "stderr",
            limits=self._parts.config.limits,
            is_file_system=inputs.is_file_system,
            network=network,
        )

    async def _execute(
        self,
        action: re_pb.Action,
        sandbox: Sandbox,
        request: SandboxRequest,
        metadata: re_pb.ExecutedActionMetadata,
    ) -> Finished:
        timeout = action.timeout.ToNanoseconds() / 1e9 or self._parts.config.default_timeout
        self._stamp(metadata.execution_start_timestamp)
        finished = await self._run_limited(sandbox, request, timeout)
        self._stamp(metadata.execution_completed_timestamp)
        metadata.virtual_execution_duration.FromNanoseconds(int(finished.seconds * 1e9))
        return finished

    async def _run_limited(
        self, sandbox: Sandbox, request: SandboxRequest, timeout: float | None
    ) -> Finished:
        groups = self._parts.groups
        if groups is None or request.limits == ResourceLimits():
            return await sandbox.run(request, timeout=timeout)
        with groups.group(request.limits) as group:
            rest = beyond_groups(request.limits)
            limited = replace(request, wrapper=group.wrapper, limits=rest)
            finished = await sandbox.run(limited, timeout=timeout)
            ran_out = finished.ran_out_of_memory or group.ran_out_of_memory
            return replace(finished, ran_out_of_memory=ran_out)

    async def _upload(
        self,
        command: CommandSpec,
        action_root: ActionRoot,
        directory: Path,
        assignment: Assignment,
        response: re_pb.ExecuteResponse,
        cas: CasClient,
    ) -> None:
        blobs = self._blobs(assignment, command)
        result = response.result
        self._stamp(result.execution_metadata.output_upload_start_timestamp)
        wrong: FailedPrecondition | None = None

        def collect() -> None:
            stdout = collect_stream(directory / "stdout", blobs)
            stderr = collect_stream(directory / "stderr", blobs)
            if stdout is not None:
                result.stdout_digest.CopyFrom(stdout)
            if stderr is not None:
                result.stderr_digest.CopyFrom(stderr)
            collect_outputs(command, action_root, result, blobs)

        try:
            # Where nothing is hashed there is little to do.
            streams = (directory / "stdout", directory / "stderr")
            is_empty = not any((command.outputs, *(path.lstat().st_size for path in streams)))
            await in_thread(
                self._parts.executor, collect, is_short=is_empty, on_cancel=blobs.abandon
            )
        except FailedPrecondition as error:
            # What the command said is still of use.
            wrong = error
        await cas.upload_missing(blobs.blobs.values())
        if wrong is not None:
            raise wrong
        self._stamp(result.execution_metadata.output_upload_completed_timestamp)

    def _stamp(self, timestamp: Timestamp) -> None:
        timestamp.FromNanoseconds(self._parts.now_ns())
