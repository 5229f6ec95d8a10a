"""Conversations with the core: what happens, what it says, and time in between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.core import Core
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import (
    ExecuteSpec,
    Failure,
    Offer,
    OperationRecord,
    OperationSnapshot,
    Platform,
    Requirement,
    WorkerDescription,
)

_C = TypeVar("_C", bound=c.Command)


def digest_of(action: str) -> Digest:
    """The digest of an action that tests call by a letter."""
    return Digest.of(action.encode(), DigestFunction.SHA256)


@dataclass(frozen=True, kw_only=True)
class Told:
    """The answers that workers got, by worker."""

    answers: dict[str, c.AnswerWorker]

    def action(self, worker: str = "w1") -> Digest | None:
        """The action that the worker was told to run."""
        command = self.answers.get(worker)
        answer = None if command is None else command.answer
        return answer.digest if isinstance(answer, c.Assign) else None

    def is_idle(self, worker: str = "w1") -> bool:
        """Whether the worker was told to be idle."""
        command = self.answers.get(worker)
        return command is not None and isinstance(command.answer, c.StayIdle)

    def goes_on(self, worker: str = "w1") -> bool:
        """Whether the worker was told to go on."""
        command = self.answers.get(worker)
        return command is not None and isinstance(command.answer, c.KeepGoing)


class Playbook:
    """One core. Every method is one event at the present time, `wait` lets time pass."""

    def __init__(self, **settings: float) -> None:
        self.settings = SchedulerSettings(**settings)  # type: ignore[arg-type]
        self.now = 1000.0
        self.core = Core(self.settings, now=self.now)
        self.heard: list[c.Command] = []
        """The commands of the latest event."""
        self._calls: dict[int, str] = {}
        self._stamp = 0
        self._platforms: dict[str, Offer] = {}

    # Clients

    def execute(
        self,
        name: str,
        action: str = "a",
        *,
        platform: Platform = (),
        instance: str = "",
        **options: object,
    ) -> Told:
        """A client asks for an action."""
        self._stamp += 1
        spec = ExecuteSpec(
            requirement=Requirement(instance, platform),
            packed_digest=digest_of(action).packed(),
            action=action.encode(),
            **options,  # type: ignore[arg-type]
        )
        return self.feed(
            e.ExecuteRequested(now=0, operation=name, spec=spec, queued_at=self._stamp)
        )

    def attach(self, name: str) -> Told:
        """A client waits."""
        return self.feed(e.WaiterAttached(now=0, operation=name))

    def drop(self, name: str) -> Told:
        """A client goes."""
        return self.feed(e.WaiterDropped(now=0, operation=name))

    def cancel(self, name: str) -> Told:
        """A client cancels."""
        return self.feed(e.OperationCancelled(now=0, operation=name))

    # Workers

    def connect(self, worker: str, platform: Platform = (), *, prefix: str = "") -> Told:
        """A worker comes, or waits again, and is idle."""
        self._platforms[worker] = Offer(prefix, platform)
        return self.idle(worker)

    def idle(self, worker: str = "w1", *, prefers_idle: bool = False) -> Told:
        """A worker says that it does nothing."""
        return self.report(worker, e.Idle(), prefers_idle=prefers_idle)

    def running(self, worker: str = "w1", action: str = "a") -> Told:
        """A worker says that it is at an action."""
        digest = digest_of(action)
        return self.report(worker, e.Executing(hash=digest.hash, size=digest.size))

    def completed(
        self,
        worker: str = "w1",
        action: str = "a",
        *,
        code: int = 0,
        queued_at: int = 0,
        prefers_idle: bool = False,
    ) -> Told:
        """A worker says that it is done with an action."""
        digest = digest_of(action)
        report = e.Completed(
            hash=digest.hash,
            size=digest.size,
            response=b"result of " + action.encode(),
            code=code,
            message="it broke" if code else "",
            queued_at=queued_at,
        )
        return self.report(worker, report, prefers_idle=prefers_idle)

    def report(self, worker: str, report: e.Report, *, prefers_idle: bool = False) -> Told:
        """A worker synchronises."""
        call = len(self._calls) + 1
        self._calls[call] = worker
        offer = self._platforms.get(worker, Offer("", ()))
        return self.feed(
            e.WorkerSynchronized(
                now=0,
                call=call,
                worker=WorkerDescription(name=worker, offer=offer),
                report=report,
                prefers_idle=prefers_idle,
            )
        )

    def hang_up(self, worker: str = "w1") -> Told:
        """The worker's latest call breaks."""
        call = max(call for call, name in self._calls.items() if name == worker)
        return self.feed(e.WorkerHungUp(now=0, worker=worker, call=call))

    # The driver

    def check(self, verdict: bytes | Failure | None = None) -> Told:
        """The check of the result that was reported last is over."""
        command = self.one(c.CheckResult)
        return self.feed(
            e.ResultChecked(
                now=0,
                execution=command.execution,
                attempt=command.attempt,
                verdict=verdict or command.response,
            )
        )

    def record(self) -> Told:
        """The responses that were decided by the latest event are durable."""
        told: dict[str, c.AnswerWorker] = {}
        for command in self.all(c.FinishOperation):
            name = command.record.name
            told |= self.feed(e.OperationRecorded(now=0, operation=name)).answers
        return Told(answers=told)

    def wait(self, seconds: float) -> Told:
        """Let time pass, with a Tick whenever one is due."""
        end = self.now + seconds
        told: dict[str, c.AnswerWorker] = {}
        heard: list[c.Command] = []
        while (deadline := self.core.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            told |= self.feed(e.Tick(now=0)).answers
            heard += self.heard
        self.now = end
        self.heard = heard
        return Told(answers=told)

    def restart(self, records: list[OperationRecord]) -> None:
        """The scheduler starts anew with these records."""
        self.core = Core(self.settings, now=self.now)
        for record in records:
            self.feed(e.OperationRestored(now=0, record=record))

    # What came of it

    def feed(self, event: e.Event) -> Told:
        """Any event."""
        self.heard = self.core.handle(replace(event, now=self.now))
        answers = {self._calls[a.call]: a for a in self.all(c.AnswerWorker)}
        return Told(answers=answers)

    def all(self, kind: type[_C]) -> list[_C]:
        """The commands of a kind that the latest event led to."""
        return [command for command in self.heard if isinstance(command, kind)]

    def one(self, kind: type[_C]) -> _C:
        """The one command of a kind."""
        (command,) = self.all(kind)
        return command

    def operation(self, name: str) -> OperationSnapshot:
        """An operation that must exist."""
        snapshot = self.core.snapshot(name)
        assert snapshot is not None
        return snapshot

    def finished(self, name: str) -> re_pb.ExecuteResponse:
        """The response of an operation that the latest event decided."""
        (record,) = [x.record for x in self.all(c.FinishOperation) if x.record.name == name]
        assert record.response is not None
        return re_pb.ExecuteResponse.FromString(record.response)
