"""How operations get to workers and come back, as conversations with the core."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2

from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.values import Failure, Stage
from tests.scheduler.playbook import Playbook, digest_of

LINUX = (("OSFamily", "linux"),)


def test_a_queued_action_goes_to_the_next_worker_and_its_result_to_the_client() -> None:
    play = Playbook()
    play.execute("op")
    assert play.one(c.PersistOperation).urgent
    assert play.operation("op").stage is Stage.QUEUED

    assert play.connect("w1").action() == digest_of("a")
    assert play.one(c.PublishOperation).operation == "op"
    snapshot = play.operation("op")
    assert (snapshot.stage, snapshot.worker, snapshot.attempts) == (Stage.EXECUTING, "w1", 1)

    assert play.running().goes_on()
    assert not play.completed().answers  # held open: there is nothing else to do
    play.check(b"checked")
    assert play.one(c.FinishOperation).record.response == b"checked"
    assert play.operation("op").response is None  # not before it is durable
    play.record()
    assert play.one(c.PublishOperation).operation == "op"
    assert play.operation("op").response == b"checked"
    assert play.operation("op").stage is Stage.COMPLETED


def test_a_waiting_worker_gets_a_new_action_at_once() -> None:
    play = Playbook()
    play.connect("w1")
    assert play.execute("op").action("w1") == digest_of("a")


def test_completing_is_answered_with_the_next_action() -> None:
    play = Playbook()
    play.execute("op1", "a")
    play.execute("op2", "b")
    play.connect("w1")
    assert play.completed("w1", "a").action("w1") == digest_of("b")


def test_an_idle_worker_is_sent_round_again_after_the_poll_interval() -> None:
    play = Playbook(poll_interval=20)
    play.connect("w1")
    assert not play.wait(19).answers
    told = play.wait(1)
    assert told.is_idle()
    assert told.answers["w1"].next_in == 0


@pytest.mark.row(71)
def test_a_silent_worker_is_lost_and_its_action_goes_to_another_one() -> None:
    play = Playbook(worker_lost_after=25)
    play.execute("op")
    play.connect("w1")
    play.connect("w2")
    play.wait(24)
    assert play.operation("op").worker == "w1"
    play.connect("w2")
    told = play.wait(1)
    assert told.action("w2") == digest_of("a")
    assert play.operation("op").attempts == 2


def test_a_worker_that_the_scheduler_could_not_hear_gets_more_time_once() -> None:
    play = Playbook(worker_lost_after=25, max_attempts=3)
    play.execute("op")
    play.connect("w1")
    for late, is_lost in ((35.0, False), (35.0, True)):
        play.now += 60
        play.feed(e.Tick(now=0, late=late))
        assert (not play.core.workers()) is is_lost
    play.connect("w1")
    play.now += 60
    play.feed(e.Tick(now=0, late=1.0))
    assert not play.core.workers()


def test_a_worker_that_was_given_more_time_keeps_its_lease() -> None:
    play = Playbook(worker_lost_after=25, poll_interval=1000)
    play.execute("op")
    play.connect("w1")
    play.connect("w2")
    play.now += 60
    play.feed(e.Tick(now=0, late=35.0))
    assert play.running("w1").goes_on()
    assert play.wait(24).action("w2") is None
    assert play.wait(1).action("w2") == digest_of("a")


def test_an_action_that_loses_its_workers_is_given_up_with_a_reason() -> None:
    play = Playbook(max_attempts=2, worker_lost_after=25)
    play.execute("op")
    play.attach("op")
    play.connect("w1")
    play.wait(25)
    play.connect("w2")
    play.wait(25)
    status = play.finished("op").status
    assert status.code == code_pb2.UNAVAILABLE
    assert "w2" in status.message
    assert "2 attempt" in status.message


def test_reporting_keeps_a_lease_alive() -> None:
    play = Playbook(worker_lost_after=25)
    play.execute("op")
    play.connect("w1")
    for _ in range(5):
        play.wait(20)
        assert play.running().goes_on()
    assert play.operation("op").attempts == 1


def test_a_worker_that_lost_its_lease_is_told_to_stop() -> None:
    play = Playbook(worker_lost_after=25)
    play.execute("op")
    play.connect("w1")
    play.wait(20)
    play.connect("w2")
    play.wait(5)
    assert play.operation("op").worker == "w2"
    assert play.running("w1").is_idle("w1")
    play.completed("w1", prefers_idle=True)
    assert not play.all(c.CheckResult)
    play.completed("w2")
    assert play.one(c.CheckResult).worker == "w2"


def test_a_lost_worker_that_comes_back_first_goes_on_with_its_action() -> None:
    play = Playbook(worker_lost_after=25)
    play.execute("op")
    play.attach("op")
    play.connect("w1")
    play.wait(30)
    assert play.operation("op").stage is Stage.QUEUED
    assert play.running("w1").goes_on()
    assert play.operation("op").worker == "w1"
    play.completed("w1")
    assert play.one(c.CheckResult).worker == "w1"


def test_going_on_after_being_lost_counts_as_an_attempt() -> None:
    play = Playbook(worker_lost_after=25, max_attempts=3)
    play.execute("op")
    play.attach("op")
    play.connect("w1")
    for _ in range(2):
        play.wait(26)
        assert play.running("w1").goes_on()
    play.wait(26)
    assert play.finished("op").status.code == code_pb2.UNAVAILABLE


def test_a_worker_that_did_not_hear_of_its_lease_is_told_again() -> None:
    play = Playbook(max_repeats=2)
    play.execute("op")
    play.connect("w1")
    assert play.idle().action() == digest_of("a")
    assert play.idle().action() == digest_of("a")
    assert play.operation("op").attempts == 1
    play.idle()  # it seems to drop it: somebody else's turn
    assert play.operation("op").attempts == 2


def test_a_worker_that_goes_away_gives_its_lease_back() -> None:
    play = Playbook()
    play.execute("op")
    play.connect("w1")
    assert play.idle(prefers_idle=True).is_idle()
    assert play.operation("op").stage is Stage.QUEUED
    assert play.connect("w2").action("w2") == digest_of("a")


def test_a_retried_action_prefers_another_worker() -> None:
    play = Playbook()
    play.connect("w1")
    play.connect("w2")
    told = play.execute("op")
    first = "w1" if told.action("w1") else "w2"
    other = "w2" if first == "w1" else "w1"
    told = play.completed(first, code=code_pb2.INTERNAL)
    assert told.action(other) == digest_of("a")


@pytest.mark.parametrize(
    "code", [code_pb2.INVALID_ARGUMENT, code_pb2.FAILED_PRECONDITION, code_pb2.DEADLINE_EXCEEDED]
)
def test_a_fault_of_the_action_is_final(code: int) -> None:
    play = Playbook()
    play.execute("op")
    play.connect("w1")
    play.completed("w1", code=code)
    play.check()
    assert play.one(c.FinishOperation).record.response == b"result of a"


def test_faults_of_workers_are_retried_and_then_reported_with_the_worker() -> None:
    play = Playbook(max_attempts=2)
    play.execute("op")
    play.connect("w1")
    play.completed("w1", code=code_pb2.RESOURCE_EXHAUSTED, prefers_idle=True)
    assert play.connect("w2").action("w2") == digest_of("a")
    play.completed("w2", code=code_pb2.RESOURCE_EXHAUSTED)
    status = play.finished("op").status
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    assert "worker w2: it broke" in status.message


def test_a_result_that_is_refused_leads_to_another_attempt() -> None:
    play = Playbook()
    play.execute("op")
    play.connect("w1")
    play.completed("w1")
    told = play.check(Failure(code=code_pb2.DATA_LOSS, message="a blob is missing"))
    assert told.action("w1") == digest_of("a")
    play.completed("w1")
    play.check()
    assert play.one(c.FinishOperation).record.response == b"result of a"


def test_a_late_report_of_an_earlier_run_of_an_equal_action_is_fenced_off() -> None:
    play = Playbook()
    play.execute("op1", do_not_cache=True)
    first = play.connect("w1").answers["w1"].answer
    assert isinstance(first, c.Assign)
    play.completed("w1", queued_at=first.queued_at)
    play.check()
    second = play.execute("op2", do_not_cache=True).answers["w1"].answer
    assert isinstance(second, c.Assign)
    # The answer got lost, so the worker reports its old result once more.
    again = play.completed("w1", queued_at=first.queued_at)
    assert not play.all(c.CheckResult)
    assert again.action() == digest_of("a")
    play.completed("w1", queued_at=second.queued_at)
    assert play.one(c.CheckResult).queued_at == second.queued_at


def test_a_second_call_of_a_worker_replaces_the_first() -> None:
    play = Playbook()
    play.connect("w1")
    first = len(play._calls)
    play.idle("w1")
    (answer,) = play.all(c.AnswerWorker)
    assert (answer.call, answer.answer) == (first, c.StayIdle())
    assert play.execute("op").action("w1") == digest_of("a")


def test_a_worker_that_hung_up_gets_nothing() -> None:
    play = Playbook()
    play.connect("w1")
    play.hang_up("w1")
    assert not play.execute("op").answers
    assert play.operation("op").stage is Stage.QUEUED


def test_a_drained_worker_finishes_and_gets_nothing_more_until_it_is_resumed() -> None:
    play = Playbook()
    play.execute("op1", "a")
    play.connect("w1")
    play.feed(e.WorkerDrained(now=0, worker="w1"))
    assert play.running("w1", "a").goes_on()
    play.execute("op2", "b")
    assert not play.completed("w1", "a").answers
    play.check()
    assert play.feed(e.WorkerResumed(now=0, worker="w1")).action("w1") == digest_of("b")


def test_a_worker_may_be_drained_before_it_comes_and_after_it_went() -> None:
    play = Playbook(worker_lost_after=25)
    play.feed(e.WorkerDrained(now=0, worker="w1"))
    play.execute("op", "a")
    assert not play.connect("w1").answers
    play.hang_up("w1")
    play.wait(25)
    assert not play.core.workers()
    assert play.core.drained() == {"w1"}
    assert not play.connect("w1").answers
    assert play.connect("w2").action("w2") == digest_of("a")
    assert not play.feed(e.WorkerResumed(now=0, worker="w1")).answers
    assert play.execute("op2", "b").action("w1") == digest_of("b")


def test_resuming_a_worker_that_went_lets_it_start_when_it_comes() -> None:
    play = Playbook()
    play.feed(e.WorkerDrained(now=0, worker="w1"))
    play.execute("op", "a")
    play.feed(e.WorkerResumed(now=0, worker="w1"))
    assert play.connect("w1").action("w1") == digest_of("a")


def test_a_listing_says_since_when_a_worker_has_its_lease() -> None:
    play = Playbook()
    play.connect("w1")
    play.wait(3)
    play.execute("op", "a")
    leased_at = play.now
    play.wait(5)
    play.running("w1", "a")
    (worker,) = play.core.workers()
    assert (worker.leased_at, worker.last_seen) == (leased_at, leased_at + 5)
    play.completed("w1", "a")
    (worker,) = play.core.workers()
    assert worker.leased_at is None
