"""BuildStream builds on our workers and shares artifacts and sources through our server."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from .buildstream import BuildStream, write_project
from .conftest import Server, StartServer
from .processes import Finished
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

MakeUser = Callable[[str], BuildStream]
REMOTE_BUILD = "Waiting for the remote build to complete"


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """A server whose workers run BuildStream's actions with the input root as `/`."""
    return start_server(sandbox="bubblewrap")


@pytest.fixture
def user(tools: Tools, server: Server, tmp_path: Path) -> MakeUser:
    project = write_project(tmp_path, tools.busybox)
    return lambda name: BuildStream(
        tools=tools, machine=tmp_path / name, project=project, server_url=server.http_url
    )


def processed(finished: Finished, queue: str) -> int:
    """How many elements bst says a queue of its pipeline worked on; 0 when it had none."""
    found = re.search(rf"{queue} Queue: +processed (\d+)", finished.output)
    return int(found[1]) if found else 0


def check(user: BuildStream) -> None:
    share = user.checkout("twice.bst") / "share"
    assert (share / "twice.txt").read_text() == "HELLO WORLD\nHELLO WORLD\n"


def test_builds_run_remotely_and_their_artifacts_are_shared(user: MakeUser) -> None:
    alice, bob = user("alice"), user("bob")
    built = alice("build", "twice.bst")
    assert processed(built, "Build") == 3
    assert built.output.count(f"SUCCESS {REMOTE_BUILD}") == 2
    assert processed(built, "Push") == 3
    check(alice)
    pulled = bob("build", "twice.bst")
    assert processed(pulled, "Pull") >= 1
    assert processed(pulled, "Build") == 0
    assert REMOTE_BUILD not in pulled.output
    check(bob)


def test_a_pulled_artifact_keeps_links_and_empty_directories(user: MakeUser) -> None:
    user("alice")("build", "hello.bst")
    bob = user("bob")
    bob("artifact", "pull", "hello.bst")
    share = bob.checkout("hello.bst") / "share"
    assert (share / "upper.txt").read_text() == "HELLO WORLD\n"
    assert (share / "link").readlink() == Path("upper.txt")
    assert list((share / "empty").iterdir()) == []


def test_without_artifacts_the_action_cache_saves_the_build(user: MakeUser) -> None:
    alice = replace(user("alice"), artifacts=False)
    alice("build", "twice.bst")
    bob = replace(user("bob"), artifacts=False)
    built = bob("build", "twice.bst")
    assert processed(built, "Build") == 3
    assert built.output.count("Action result found in action cache") == 2
    assert REMOTE_BUILD not in built.output
    check(bob)


def test_an_artifact_server_alone_needs_no_execution(user: MakeUser) -> None:
    user("alice")("build", "hello.bst")
    bob = replace(user("bob"), execution=False)
    pulled = bob("build", "hello.bst")
    assert processed(pulled, "Build") == 0
    assert (bob.checkout("hello.bst") / "share" / "upper.txt").read_text() == "HELLO WORLD\n"


def test_pushed_sources_are_fetched_by_another(user: MakeUser) -> None:
    alice = user("alice")
    pushed = alice("source", "push", "hello.bst")
    assert "Pushed source" in pushed.output
    fetched = user("bob")("source", "fetch", "hello.bst")
    assert "Pulled source" in fetched.output


def test_a_failing_build_shows_the_commands_error(user: MakeUser) -> None:
    failed = user("alice")("--on-error", "continue", "build", "broken.bst", status=255)
    assert "the-reason-is-here" in failed.output
    assert "failed with exitcode 9" in failed.output
    # The failure is an artifact too, for others to look at.
    assert processed(failed, "Push") == 2
    bob = user("bob")
    bob("artifact", "pull", "broken.bst")
    assert "the-reason-is-here" in bob("artifact", "log", "broken.bst").output
