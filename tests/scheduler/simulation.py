"""A seeded simulation of clients, workers and restarts around the core, in virtual time.

Replay one seed by hand with `python -m tests.scheduler.simulation SEED`.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.core import Core
from server.scheduler.values import (
    ExecuteSpec,
    Failure,
    OperationRecord,
    OperationSnapshot,
    Requirement,
)
from tests.scheduler.invariants import Answered, Invariants
from tests.scheduler.simulated_workers import Fleet, result_of
from tests.scheduler.world import RPC_TIMEOUT, Plan, Violated, World

_AT_LATEST = 50_000.0


@dataclass(kw_only=True)
class Client:
    """Wants one action, and comes back until it has an answer."""

    number: int
    spec: ExecuteSpec
    operation: str = ""
    answer: bytes | None = None
    wants_cancel: bool = False
    attached: int = -1
    """The life of the scheduler in which its stream is open, or -1."""


class Simulation:
    """One world. `run` returns when every client has its answer, or raises Violated."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.plan = plan or Plan()
        self.world = World(seed, self.plan)
        self.events = 0
        self.starts: list[tuple[float, str]] = []
        """For every first lease: how long the operation was queued, and its invocation."""
        self._life = 0
        self._is_restoring = False
        self._durable: dict[str, OperationRecord] = {}
        self._asked_at: dict[str, float] = {}
        self._promised: set[str] = set()
        self._accepted: dict[str, Client] = {}
        self._visible: dict[str, bytes] = {}
        self._finished: set[tuple[int, str]] = set()
        self._published: set[tuple[int, str]] = set()
        self._started_at = 0.0
        """When the present life of the scheduler began."""
        self._left_to: dict[tuple[Digest, int], str] = {}
        """What the present life knows from before: which worker was at which execution."""
        self._forgotten: set[str] = set()
        self._tick_at: float | None = None
        self._fleet = Fleet(self.world, self._feed)
        self.clients = [self._new_client(number) for number in range(self.plan.clients)]
        self._unanswered = len(self.clients)
        self._unshared = {
            client.spec.digest.hash for client in self.clients if client.spec.do_not_cache
        }
        shared = [c.spec.digest for c in self.clients if not c.spec.do_not_cache]
        self._is_fairness_plain = len(set(shared)) == len(shared)
        """Nobody's action is run on behalf of somebody else."""
        self.contested: Counter[str] = Counter()
        """Leases by invocation, given while every invocation had something queued."""
        self._start_core()

    def run(self) -> None:
        """Play until every client has its answer."""
        random, plan = self.world.random, self.plan
        self._fleet.start()
        for client in self.clients:
            self._later(random.uniform(0, plan.arrivals_within), client, "")
        for _ in range(plan.restarts):
            self.world.after(random.uniform(0, plan.faults_until), self._restart)
        for _ in range(plan.clock_jumps):
            self.world.after(random.uniform(0, plan.faults_until), self.world.jump_wall_clock)
        while self._unanswered:
            if self.world.now > _AT_LATEST or not self.world.step():
                waiting = [client for client in self.clients if client.answer is None]
                raise Violated(f"{len(waiting)} client(s) hang, first {waiting[0]}")

    # Clients

    def _new_client(self, number: int) -> Client:
        random = self.world.random
        action = random.randrange(self.plan.actions)
        weights = self.plan.invocations
        (invocation,) = random.choices(range(len(weights)), weights)
        do_not_cache = random.random() < self.plan.do_not_cache
        spec = ExecuteSpec(
            requirement=Requirement("", (("Pool", "ab"[action % 2]),)),
            packed_digest=Digest.of(
                b"%d %d" % (action, do_not_cache), DigestFunction.SHA256
            ).packed(),
            action=b"%d" % action,
            do_not_cache=do_not_cache,
            priority=random.choice(self.plan.priorities),
            invocation=f"build-{invocation}",
        )
        return Client(number=number, spec=spec, wants_cancel=random.random() < self.plan.cancelled)

    def _later(self, delay: float, client: Client, name: str) -> None:
        self.world.after(delay, lambda: self._pursue(client, name))

    def _pursue(self, client: Client, name: str) -> None:
        """Ask, or wait again for what was asked; `name` is what the client knew at the time."""
        if client.operation != name or client.attached >= 0 or client.answer is not None:
            return
        if name in self._accepted:
            self._attach(client)
            return
        name = client.operation = f"operations/{client.number}-{self.world.unique()}"
        self._asked_at[name] = self.world.now
        stamp = self.world.stamp()
        self._feed(e.ExecuteRequested(now=0.0, operation=name, spec=client.spec, queued_at=stamp))
        if name not in self._promised:
            raise Violated(f"operation {name} was neither kept nor refused")
        self._later(RPC_TIMEOUT, client, name)

    def _learn_name(self, client: Client, name: str) -> None:
        """From now on the operation must not get lost."""
        if client.operation != name or client.answer is not None:
            return
        self._accepted[name] = client
        self._attach(client)
        if client.wants_cancel:
            cancelled = e.OperationCancelled(now=0.0, operation=name)
            self.world.after(self.world.random.uniform(0, 30), lambda: self._feed(cancelled))

    def _attach(self, client: Client) -> None:
        if client.attached >= 0:
            return
        name = client.operation
        snapshot = self._core.snapshot(name)
        if snapshot is None:
            raise Violated(f"operation {name} was accepted and is lost")
        client.attached = self._life
        self._feed(e.WaiterAttached(now=0.0, operation=name))
        if snapshot.is_done:
            self._deliver(client, snapshot)
        elif self.world.happens(self.plan.broken_stream):
            life, delay = self._life, self.world.random.uniform(0, 20)
            self.world.after(delay, lambda: self._break_stream(client, name, life))

    def _break_stream(self, client: Client, name: str, life: int) -> None:
        if client.operation != name or client.attached != life or client.answer is not None:
            return
        client.attached = -1
        self._feed(e.WaiterDropped(now=0.0, operation=name))
        self._later(self.world.random.uniform(0, 30), client, name)

    def _deliver(self, client: Client, snapshot: OperationSnapshot) -> None:
        name, response = snapshot.name, snapshot.response
        if client.answer is not None or client.operation != name or client.attached < 0:
            return
        assert response is not None
        if self._visible.setdefault(name, response) != response:
            raise Violated(f"operation {name} has two different responses")
        if response.startswith(b"ok ") and response.split()[1].decode() != client.spec.digest.hash:
            raise Violated(f"operation {name} got the result of another action: {response!r}")
        if self._durable[name].response != response:
            raise Violated(f"operation {name} shows a response that is not durable")
        if b"was cancelled" in response and not client.wants_cancel:
            raise Violated(f"operation {name} was cancelled, and nobody wanted that")
        client.attached = -1
        self._feed(e.WaiterDropped(now=0.0, operation=name))
        if b"dropped from the queue" in response:
            client.operation = ""
            self._later(self.world.random.uniform(0, 5), client, "")
        else:
            client.answer = response
            self._unanswered -= 1

    # The scheduler

    def _feed(self, event: e.Event) -> None:
        for command in self._core.handle(replace(event, now=self.world.now)):
            self._perform(command)
        self.events += 1
        if self.events % self.plan.check_every == 0 and not self._is_restoring:
            self._invariants.check(
                accepted=self._accepted, forgotten=self._forgotten, answered=self._answered
            )
        self._answered.clear()
        self._fleet.check_calls(self.plan.settings.poll_interval)
        deadline = self._core.next_deadline()
        if deadline is not None and (self._tick_at is None or deadline < self._tick_at):
            self._tick_at = at = max(deadline, self.world.now)
            self.world.after(at - self.world.now, lambda: self._tick(at))

    def _tick(self, at: float) -> None:
        if self._tick_at == at:
            self._tick_at = None
            self._feed(e.Tick(now=0.0))

    def _start_core(self) -> None:
        settings = self.plan.settings
        self._core = Core(settings, now=self.world.now)
        self._answered: list[Answered] = []
        self._invariants = Invariants(
            self._core,
            settings,
            unshared=self._unshared,
            invocations=len(self.plan.invocations) if self._is_fairness_plain else None,
            contested=self.contested,
        )

    def _restart(self) -> None:
        self._life += 1
        self._started_at = self.world.now
        self._start_core()
        self._is_restoring = True
        self._fleet.scheduler_restarted()
        for record in sorted(self._durable.values(), key=lambda record: record.sequence):
            self._feed(e.OperationRestored(now=0.0, record=record))
        self._is_restoring = False
        self._check_restored()
        for client in self.clients:
            if client.attached >= 0:
                client.attached = -1
                self._later(self.world.random.uniform(0, 20), client, client.operation)

    def _perform(self, command: c.Command) -> None:
        life = self._life
        if isinstance(command, c.AnswerWorker):
            call = self._fleet.take_answer(command)
            self._answered.append((call, command.answer))
            if isinstance(command.answer, c.Assign):
                self._check_alone(call.worker.name, command.answer)
        elif isinstance(command, c.CheckResult):
            self.world.soon(lambda: self._check_result(command, life))
        elif isinstance(command, c.PersistOperation):
            self._persist(command, life)
        elif isinstance(command, c.FinishOperation):
            self._check_finish(command.record)
            self.world.soon(lambda: self._record(command.record, life))
        elif isinstance(command, c.ForgetOperation):
            self._forgotten.add(command.operation)
        elif isinstance(command, c.PublishOperation):
            self._publish(command.operation)
        elif isinstance(command, c.RefuseOperation):
            raise Violated(f"operation {command.operation} was refused: {command.failure}")

    def _check_finish(self, record: OperationRecord) -> None:
        name, client = record.name, self._accepted.get(record.name)
        known = self._durable.get(name)
        if (self._life, name) in self._finished or (known is not None and known.response):
            raise Violated(f"operation {name} finished twice")
        self._finished.add((self._life, name))
        is_watched = client is not None and (client.operation, client.attached) == (
            name,
            self._life,
        )
        if is_watched and b"dropped from the queue" in (record.response or b""):
            raise Violated(f"operation {name} was dropped while its client waited")

    def _check_restored(self) -> None:
        """Nothing is forgotten of how often actions were tried, and by whom."""
        unfinished = [record for record in self._durable.values() if record.response is None]
        fewest: dict[str, int] = {}
        for record in unfinished:
            hash_ = record.spec.digest.hash
            fewest[hash_] = min(record.attempts, fewest.get(hash_, record.attempts))
        limit = self.plan.settings.max_attempts - 1
        self._left_to = {}
        for record in sorted(unfinished, key=lambda record: record.sequence):
            snapshot = self._core.snapshot(record.name)
            if snapshot is None or snapshot.attempts < min(fewest[record.spec.digest.hash], limit):
                raise Violated(f"operation {record.name} came back with fewer attempts")
            if snapshot.worker:
                self._left_to[record.spec.digest, record.queued_at] = snapshot.worker

    def _check_alone(self, name: str, answer: c.Assign) -> None:
        """What a worker is at by the scheduler's own word, nobody else is told to run too soon.

        But for executions of equal actions that share nothing: reports do not tell those apart.
        """
        if answer.digest.hash in self._unshared:
            return
        for worker in self._fleet.at_work_on(answer):
            other, (hash_, since) = worker.description.name, worker.confirmed
            if hash_ != answer.digest.hash:
                continue
            if since < self._started_at:
                if self._left_to.get((answer.digest, answer.queued_at)) != other:
                    continue  # its lease is younger than what the database knew
                since = self._started_at
            if other != name and self.world.now < since + self.plan.settings.worker_lost_after:
                raise Violated(f"{name} is told to run {answer.digest}, and {other} runs it")

    def _persist(self, command: c.PersistOperation, life: int) -> None:
        record = command.record
        if record.attempts == 1 and record.worker:
            waited = self.world.now - self._asked_at[record.name]
            self.starts.append((waited, record.spec.invocation))
        if command.urgent:
            self._promised.add(record.name)
            self.world.soon(lambda: self._write(record, life))
        else:
            delay = self.world.random.uniform(1, 2)
            self.world.after(delay, lambda: self._write(record, life))

    def _write(self, record: OperationRecord, life: int) -> None:
        known = self._durable.get(record.name)
        if life != self._life or (known is not None and known.response is not None):
            return
        self._durable[record.name] = record
        client = self.clients[int(record.name.split("/")[1].split("-")[0])]
        if not record.attempts and not self.world.happens(self.plan.lost_message):
            self.world.soon(lambda: self._learn_name(client, record.name))

    def _record(self, record: OperationRecord, life: int) -> None:
        if life == self._life:
            self._durable[record.name] = record
            self._feed(e.OperationRecorded(now=0.0, operation=record.name))

    def _check_result(self, command: c.CheckResult, life: int) -> None:
        verdict: bytes | Failure = command.response
        if command.response != result_of(command.digest, command.queued_at):
            raise Violated(f"{command.response!r} is taken for the result of {command.digest}")
        if self.world.happens(self.plan.refused_results):
            verdict = Failure(code=15, message="a blob is not there")
        if life == self._life:
            self._feed(
                e.ResultChecked(
                    now=0.0,
                    execution=command.execution,
                    attempt=command.attempt,
                    verdict=verdict,
                )
            )

    def _publish(self, name: str) -> None:
        snapshot = self._core.snapshot(name)
        client = self._accepted.get(name)
        if snapshot is not None and snapshot.is_done:
            if (self._life, name) in self._published:
                raise Violated(f"operation {name} is answered twice")
            self._published.add((self._life, name))
        if snapshot is not None and snapshot.is_done and client is not None:
            life = self._life
            if client.attached == life:
                self.world.soon(lambda: self._deliver(client, snapshot))


def simulate(seed: int, plan: Plan | None = None) -> Simulation:
    """Run one seed; what it raises says which."""
    simulation = Simulation(seed, plan)
    try:
        simulation.run()
    except Exception as error:
        error.add_note(
            f"seed {seed}, {simulation.events} events, virtual time {simulation.world.now:.3f}"
        )
        raise
    return simulation


if __name__ == "__main__":
    done = simulate(int(sys.argv[1]))
    print(f"{done.events} events, {done.world.now:.0f} s of virtual time, no violation")
