"""What a restart of the scheduler means to clients and workers, as conversations with the core."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2

from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.values import OperationRecord, Platform, Stage
from tests.scheduler.playbook import Playbook, digest_of

LINUX: Platform = (("OSFamily", "linux"),)


def _records(play: Playbook) -> dict[str, OperationRecord]:
    return {x.record.name: x.record for x in play.all(c.PersistOperation)}


def test_a_restart_queues_everything_again_and_running_workers_go_on() -> None:
    play = Playbook()
    records: dict[str, OperationRecord] = {}
    play.execute("op1", "a")
    records |= _records(play)
    play.execute("op2", "b")
    records |= _records(play)
    play.execute("op3", "a")
    records |= _records(play)
    play.connect("w1")
    records |= _records(play)
    play.restart(list(records.values()))
    assert play.operation("op1").stage is Stage.EXECUTING
    assert play.operation("op2").stage is Stage.QUEUED
    assert play.running("w1", "a").goes_on()
    assert play.operation("op1").worker == "w1"
    assert play.operation("op3").stage is Stage.EXECUTING
    assert play.connect("w2").action("w2") == digest_of("b")
    play.completed("w1", "a")
    play.check()
    assert [x.record.name for x in play.all(c.FinishOperation)] == ["op1", "op3"]


def test_a_result_made_while_the_scheduler_was_down_is_taken() -> None:
    play = Playbook()
    play.execute("op")
    play.connect("w1")
    (record,) = _records(play).values()
    play.restart([record])
    play.completed("w1", queued_at=record.queued_at)
    assert play.one(c.CheckResult).worker == "w1"


def test_a_result_is_taken_although_the_request_that_led_to_it_is_gone() -> None:
    play = Playbook()
    play.execute("op1")
    play.connect("w1")
    queued_at = play.one(c.PersistOperation).record.queued_at
    play.execute("op2")
    (joined,) = _records(play).values()
    play.cancel("op1")
    play.restart([joined])
    play.completed("w1", queued_at=queued_at)
    assert play.one(c.CheckResult).worker == "w1"


def test_another_worker_cannot_claim_a_lease_that_it_never_had() -> None:
    play = Playbook()
    play.execute("op")
    play.connect("w1")
    (record,) = _records(play).values()
    play.restart([record])
    assert play.running("w2").is_idle("w2")
    assert play.operation("op").worker == "w1"
    assert play.running("w1").goes_on()


def _left_to_w1(**settings: float) -> Playbook:
    """A scheduler that was restarted while w1 ran an action."""
    play = Playbook(**settings)
    play.execute("op")
    play.connect("w1")
    play.restart(list(_records(play).values()))
    return play


def test_after_a_restart_nobody_gets_what_a_worker_may_still_be_at() -> None:
    play = _left_to_w1(worker_lost_after=25)
    assert play.connect("w2").action("w2") is None
    play.wait(20)
    play.idle("w2")
    assert play.running("w1").goes_on()
    play.completed("w1")
    assert play.one(c.CheckResult).worker == "w1"


def test_a_worker_that_stays_away_after_a_restart_is_lost() -> None:
    play = _left_to_w1(worker_lost_after=25, poll_interval=100)
    play.connect("w2")
    assert play.wait(24).action("w2") is None
    assert play.wait(1).action("w2") == digest_of("a")
    assert play.running("w1").is_idle()
    assert play.operation("op").worker == "w2"


@pytest.mark.parametrize("does", ["nothing", "something else", "nothing more"])
def test_a_worker_that_comes_back_without_its_action_leaves_it_to_others(does: str) -> None:
    play = _left_to_w1()
    play.connect("w2")
    if does == "nothing":
        told = play.idle("w1")
    elif does == "nothing more":
        told = play.idle("w1", prefers_idle=True)
    else:
        told = play.running("w1", "b")
    assert told.action("w2") == digest_of("a")


def test_an_operation_that_is_left_to_its_worker_can_be_cancelled_and_joined() -> None:
    play = _left_to_w1()
    play.execute("joined")
    play.cancel("op")
    assert play.finished("op").status.code == code_pb2.CANCELLED
    assert play.operation("joined").worker == "w1"
    play.cancel("joined")
    assert play.running("w1").is_idle()
    assert not play.core.queued()
    play.wait(1000)


def test_an_operation_is_dropped_when_neither_worker_nor_client_comes_back() -> None:
    play = _left_to_w1(restored_grace=10, worker_lost_after=25, no_worker_grace=2000)
    play.wait(34)
    assert play.operation("op").stage is Stage.QUEUED
    play.wait(1)
    assert play.finished("op").status.code == code_pb2.UNAVAILABLE


def test_a_restored_operation_waits_longer_for_its_client() -> None:
    play = Playbook(unattended_grace=60, restored_grace=600, no_worker_grace=2000)
    play.execute("op")
    play.restart(list(_records(play).values()))
    play.wait(599)
    assert play.operation("op").stage is Stage.QUEUED
    play.wait(1)
    assert play.finished("op").status.code == code_pb2.UNAVAILABLE


def test_a_finished_operation_is_restored_with_its_response() -> None:
    play = Playbook(retention=300)
    play.execute("op")
    play.connect("w1")
    play.completed()
    play.check()
    record = play.one(c.FinishOperation).record
    play.restart([])
    play.feed(e.OperationRestored(now=0, record=record))
    assert play.operation("op").response == b"result of a"
    play.wait(300)
    assert play.core.snapshot("op") is None


def test_after_a_restart_operations_wait_for_the_workers_to_find_back() -> None:
    play = Playbook(no_worker_grace=10, worker_return_grace=60, restored_grace=600)
    play.execute("op", platform=LINUX)
    play.restart(list(_records(play).values()))
    play.connect("w1", (("OSFamily", "windows"),))
    play.wait(50)
    assert play.operation("op").stage is Stage.QUEUED
    assert play.connect("w2", LINUX).action("w2") == digest_of("a")


def test_a_restart_leaves_at_least_one_attempt_and_keeps_their_bound() -> None:
    play = Playbook(max_attempts=2, worker_lost_after=25)
    play.execute("op")
    play.connect("w1")
    play.wait(25)
    play.connect("w2")
    (record,) = _records(play).values()
    assert record.attempts == 2
    play.restart([record])
    play.connect("w3")
    assert play.idle("w2", prefers_idle=True).action("w3") == digest_of("a")
    assert play.operation("op").attempts == 2


def test_numbers_of_operations_go_on_after_a_restart() -> None:
    play = Playbook()
    play.execute("op1", "a")
    play.execute("op2", "b")
    play.restart(list(_records(play).values()))
    play.execute("op3", "c")
    assert play.operation("op3").sequence > play.operation("op2").sequence
