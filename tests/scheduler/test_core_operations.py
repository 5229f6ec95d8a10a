"""What clients can rely on, as conversations with the core."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2

from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.values import Platform, Stage
from tests.scheduler.playbook import Playbook, digest_of

LINUX: Platform = (("OSFamily", "linux"),)


def test_equal_actions_run_once_and_every_operation_gets_the_result() -> None:
    play = Playbook()
    play.execute("op1")
    play.execute("op2")
    assert play.one(c.PersistOperation).record.name == "op2"
    assert play.connect("w1").action() == digest_of("a")
    play.execute("op3")
    assert play.operation("op3").stage is Stage.EXECUTING
    assert not play.completed("w1").answers
    play.execute("op4")
    play.feed(e.ResultChecked(now=0, execution=1, attempt=1, verdict=b"done"))
    assert [x.record.name for x in play.all(c.FinishOperation)] == ["op1", "op2", "op3", "op4"]
    assert {x.record.response for x in play.all(c.FinishOperation)} == {b"done"}


@pytest.mark.row(81)
def test_actions_that_are_not_to_be_cached_share_nothing() -> None:
    play = Playbook()
    play.execute("op1", do_not_cache=True)
    play.execute("op2", do_not_cache=True)
    play.execute("op3")
    assert play.connect("w1").action() == digest_of("a")
    assert play.connect("w2").action("w2") == digest_of("a")
    assert play.connect("w3").action("w3") == digest_of("a")


def test_instances_share_nothing() -> None:
    play = Playbook()
    play.execute("op1", instance="one")
    play.execute("op2", instance="two")
    play.connect("w1")
    assert play.operation("op2").stage is Stage.QUEUED


@pytest.mark.row(106)
def test_lower_priorities_go_first_and_equal_ones_in_order() -> None:
    play = Playbook()
    play.execute("op1", "a", priority=1)
    play.execute("op2", "b", priority=0)
    play.execute("op3", "c", priority=0)
    play.execute("op4", "d", priority=-1)
    order = [play.connect("w1").action()]
    for action in "dbc":
        order.append(play.completed("w1", action).action())
    assert order == [digest_of(action) for action in "dbca"]


def test_an_urgent_request_hurries_the_execution_that_it_joins() -> None:
    play = Playbook()
    play.execute("op1", "a")
    play.execute("op2", "b")
    play.execute("op3", "b", priority=-5)
    assert play.connect("w1").action() == digest_of("b")


def test_invocations_share_the_workers_however_much_they_have_queued() -> None:
    play = Playbook()
    for n in range(10):
        play.execute(f"big{n}", f"big{n}", invocation="big")
    for n in range(3):
        play.execute(f"small{n}", f"small{n}", invocation="small")
    for n in range(6):
        play.connect(f"w{n}")
    executing = [f"big{n}" for n in range(10)] + [f"small{n}" for n in range(3)]
    running = [name for name in executing if play.operation(name).stage is Stage.EXECUTING]
    assert running == ["big0", "big1", "big2", "small0", "small1", "small2"]


@pytest.mark.row(74)
def test_cancelling_ends_the_operation_and_stops_the_worker() -> None:
    play = Playbook()
    play.execute("op")
    play.connect("w1")
    play.cancel("op")
    assert play.finished("op").status.code == code_pb2.CANCELLED
    assert play.running("w1").is_idle()


def test_cancelling_one_of_two_leaves_the_execution_to_the_other() -> None:
    play = Playbook()
    play.execute("op1")
    play.execute("op2")
    play.connect("w1")
    play.cancel("op1")
    assert [x.record.name for x in play.all(c.FinishOperation)] == ["op1"]
    assert play.running("w1").goes_on()
    play.completed("w1")
    play.check()
    assert [x.record.name for x in play.all(c.FinishOperation)] == ["op2"]


def test_cancelling_while_the_result_is_checked_wins() -> None:
    play = Playbook()
    play.execute("op")
    play.connect("w1")
    play.completed("w1")
    play.cancel("op")
    assert play.finished("op").status.code == code_pb2.CANCELLED
    play.feed(e.ResultChecked(now=0, execution=1, attempt=1, verdict=b"late"))
    assert not play.heard


def test_cancelling_what_is_done_changes_nothing() -> None:
    play = Playbook()
    play.execute("op")
    play.connect("w1")
    play.completed("w1")
    play.check()
    play.record()
    play.cancel("op")
    assert not play.heard
    assert play.operation("op").response == b"result of a"


@pytest.mark.row(78)
def test_a_queued_operation_that_nobody_waits_for_is_dropped_after_the_grace_period() -> None:
    play = Playbook(unattended_grace=60, no_worker_grace=1000)
    play.execute("op")
    play.attach("op")
    play.wait(500)
    play.drop("op")
    play.wait(59)
    assert play.operation("op").stage is Stage.QUEUED
    play.wait(1)
    assert play.finished("op").status.code == code_pb2.UNAVAILABLE


@pytest.mark.row(78)
def test_a_client_that_comes_back_in_time_saves_its_operation() -> None:
    play = Playbook(unattended_grace=60, no_worker_grace=1000)
    play.execute("op")
    play.attach("op")
    play.drop("op")
    play.wait(59)
    play.attach("op")
    play.wait(500)
    assert play.operation("op").stage is Stage.QUEUED


def test_an_executing_operation_that_nobody_waits_for_finishes() -> None:
    play = Playbook(unattended_grace=10)
    play.execute("op")
    play.connect("w1")
    play.wait(15)
    play.running()
    play.completed()
    play.check()
    assert play.one(c.FinishOperation).record.response == b"result of a"


def test_finished_operations_are_forgotten_after_the_retention_time() -> None:
    play = Playbook(retention=300)
    play.execute("op")
    play.connect("w1")
    play.completed("w1", prefers_idle=True)
    play.check()
    play.record()
    play.wait(299)
    assert play.operation("op").is_done
    play.wait(1)
    assert play.core.snapshot("op") is None
    assert play.one(c.ForgetOperation).operation == "op"


def test_finished_operations_are_bounded_in_number_and_in_size() -> None:
    play = Playbook(max_finished=2, max_finished_bytes=1000)
    for name, size in (("op1", 1), ("op2", 1), ("op3", 1), ("op4", 999)):
        play.execute(name, name)
        play.connect("w1")
        play.completed("w1", name, prefers_idle=True)
        play.check(b"x" * size)
        play.record()
    names = [snapshot.name for snapshot in play.core.snapshots()]
    assert names == ["op3", "op4"]
    play.execute("op5", "op5")
    play.connect("w1")
    play.completed("w1", "op5", prefers_idle=True)
    play.check(b"x" * 5000)
    play.record()
    assert [snapshot.name for snapshot in play.core.snapshots()] == ["op5"]


def test_deleting_a_finished_operation_forgets_it() -> None:
    play = Playbook()
    play.execute("op")
    play.feed(e.OperationDeleted(now=0, operation="op"))
    assert play.operation("op").stage is Stage.QUEUED  # only what is done can be deleted
    play.connect("w1")
    play.completed()
    play.check()
    play.record()
    play.feed(e.OperationDeleted(now=0, operation="op"))
    assert play.core.snapshot("op") is None


@pytest.mark.row(74)
def test_without_any_worker_an_action_waits_a_little_and_fails() -> None:
    play = Playbook(no_worker_grace=10)
    play.execute("op", platform=LINUX)
    play.wait(9)
    assert play.operation("op").stage is Stage.QUEUED
    play.wait(1)
    status = play.finished("op").status
    assert status.code == code_pb2.FAILED_PRECONDITION
    assert status.message == "no worker is connected"


def test_a_worker_that_connects_in_time_saves_what_waits_for_it() -> None:
    play = Playbook(no_worker_grace=10)
    play.execute("op", platform=LINUX)
    play.wait(9)
    assert play.connect("w1", LINUX).action() == digest_of("a")


@pytest.mark.row(74)
def test_an_action_that_no_worker_matches_is_refused_with_the_property_at_fault() -> None:
    play = Playbook(no_worker_grace=10, no_match_grace=0)
    play.connect("w1", (*LINUX, ("Pool", "small")))
    play.wait(10)
    play.execute("op", platform=(*LINUX, ("Pool", "large")))
    failure = play.one(c.RefuseOperation).failure
    assert failure.code == code_pb2.FAILED_PRECONDITION
    assert "'Pool'='large'" in failure.message
    assert "'small'" in failure.message
    assert play.core.snapshot("op") is None


def test_actions_wait_for_the_kind_of_worker_that_has_just_vanished() -> None:
    play = Playbook(no_match_grace=0, worker_lost_after=25, worker_return_grace=60)
    play.connect("w1", LINUX)
    play.hang_up("w1")
    play.wait(30)
    assert not play.core.workers()
    play.execute("op", platform=LINUX)
    play.wait(50)
    assert play.operation("op").stage is Stage.QUEUED
    assert play.connect("w2", LINUX).action("w2") == digest_of("a")


def test_actions_fail_when_the_last_worker_of_their_kind_stays_away() -> None:
    play = Playbook(no_match_grace=0, worker_lost_after=25, worker_return_grace=60)
    play.connect("w1", LINUX)
    play.connect("w2", (("OSFamily", "windows"),))
    play.hang_up("w1")
    play.wait(30)
    play.execute("op", platform=LINUX)
    play.attach("op")
    play.wait(60)
    assert play.finished("op").status.code == code_pb2.FAILED_PRECONDITION


def test_a_worker_serves_the_instances_under_its_prefix_and_is_told_the_rest_of_the_name() -> None:
    play = Playbook()
    play.connect("w1", prefix="team")
    play.wait(20)
    play.execute("op1", instance="teamwork")
    assert play.all(c.RefuseOperation)
    play.connect("w1", prefix="team")
    answer = play.execute("op2", instance="team/a").answers["w1"].answer
    assert isinstance(answer, c.Assign)
    assert answer.instance_suffix == "a"


@pytest.mark.row(74)
def test_too_many_operations_under_way_are_refused() -> None:
    play = Playbook(max_unfinished=2)
    play.execute("op1", "a")
    play.execute("op2", "b")
    play.execute("op3", "c")
    assert play.one(c.RefuseOperation).failure.code == code_pb2.RESOURCE_EXHAUSTED
    play.cancel("op1")
    play.record()
    play.execute("op4", "d")
    assert not play.all(c.RefuseOperation)
