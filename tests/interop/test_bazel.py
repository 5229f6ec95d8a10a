"""bazel builds and tests through our cache and on our workers, from two machines."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from .bazel import Bazel, Build
from .bazel_workspace import write_project, write_workspace
from .conftest import Server, StartServer
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]

MakeBazel = Callable[[str], Bazel]
REMOTE = ("--spawn_strategy=remote", "--genrule_strategy=remote", "--strategy=TestRunner=remote")


@pytest.fixture
def bazel(tools: Tools, tmp_path: Path) -> MakeBazel:
    """bazel on the machine of that name; all machines have the same checkout."""
    workspace = write_project(tmp_path)
    return lambda name: Bazel(tools=tools, machine=tmp_path / name, workspace=workspace)


def outputs(build: Build) -> dict[str, bytes]:
    names = ("out/upper.txt", "said.txt", "leaves/deep/leaf", "leaves/other", "hello")
    return {name: build.output(name).read_bytes() for name in names}


def check(build: Build) -> None:
    """Everything was built, is right, and both tests passed."""
    assert build.output("out/upper.txt").read_text() == "HELLO WORLD\n"
    assert build.output("said.txt").read_text() == "said\n"
    assert build.output("leaves/deep/leaf").read_text() == "HELLO WORLD\n"
    assert subprocess.check_output([build.output("hello")], text=True) == "hello\n"
    for name in ("//:shell_test", "//:greeting_test"):
        assert f"{name} " in build.text
    assert build.text.count("PASSED") == 2


def test_second_machine_gets_everything_from_the_cache(bazel: MakeBazel, server: Server) -> None:
    cache = ("//...", f"--remote_cache={server.grpc_url}", "--spawn_strategy=local")
    first = bazel("one")("test", *cache)
    check(first)
    assert first.actions.keys() == {"local"}
    second = bazel("two")("test", *cache)
    check(second)
    assert second.actions == {"remote cache hit": first.actions["local"]}
    assert second.text.count("(cached) PASSED") == 2
    assert outputs(second) == outputs(first)


@pytest.mark.parametrize("sandbox", ["none", "bubblewrap"])
def test_a_build_runs_on_the_workers_once(
    bazel: MakeBazel, start_server: StartServer, sandbox: str
) -> None:
    server = start_server(sandbox=sandbox)
    executor = ("//...", f"--remote_executor={server.grpc_url}", *REMOTE)
    first = bazel("one")("test", *executor)
    check(first)
    assert first.actions.keys() == {"remote"}
    assert "WORLD" in first.test_log("shell_test")
    second = bazel("two")("test", *executor)
    check(second)
    assert second.actions == {"remote cache hit": first.actions["remote"]}
    assert outputs(second) == outputs(first)


def test_an_edit_rebuilds_only_what_depends_on_it(bazel: MakeBazel, server: Server) -> None:
    executor = ("//...", f"--remote_executor={server.grpc_url}", *REMOTE)
    first = bazel("one")("build", *executor)
    (bazel("one").workspace / "greeting_test.cc").write_text("int main() { return 0; }\n")
    second = bazel("two")("build", *executor)
    # The edited file compiles and links again, all else was there.
    assert second.actions["remote"] == 2
    assert second.actions["remote cache hit"] == first.actions["remote"] - 2


def test_not_accepting_cached_results_runs_everything_again(
    bazel: MakeBazel, server: Server
) -> None:
    executor = ("//:upper", "//:leaves", f"--remote_executor={server.grpc_url}", *REMOTE)
    assert bazel("one")("build", *executor).actions == {"remote": 2}
    again = bazel("two")("build", *executor, "--noremote_accept_cached")
    assert again.actions == {"remote": 2}
    assert again.output("leaves/other").read_text() == "HELLO WORLD\n"


def test_minimal_download_leaves_the_outputs_on_the_server(
    bazel: MakeBazel, server: Server
) -> None:
    executor = ("//...", f"--remote_executor={server.grpc_url}", *REMOTE)
    minimal = bazel("one")("test", *executor, "--remote_download_minimal")
    assert minimal.actions.keys() == {"remote"}
    assert minimal.text.count("PASSED") == 2
    assert not minimal.output("out/upper.txt").exists()
    assert not minimal.output("hello").exists()
    check(bazel("two")("test", *executor, "--remote_download_toplevel"))


@pytest.mark.parametrize("instance", ["main", "team/linux/x86"])
def test_instance_names_of_one_and_more_segments(
    bazel: MakeBazel, server: Server, instance: str
) -> None:
    executor = (f"--remote_executor={server.grpc_url}", f"--remote_instance_name={instance}")
    first = bazel("one")("build", "//:upper", *executor, *REMOTE)
    assert first.actions == {"remote": 1}
    second = bazel("two")("build", "//:upper", *executor, *REMOTE)
    assert second.actions == {"remote cache hit": 1}
    # Another instance has no part in it.
    third = bazel("three")("build", "//:upper", executor[0], *REMOTE)
    assert third.actions == {"remote": 1}


def test_digests_of_another_function(bazel: MakeBazel, server: Server) -> None:
    """bazel sets no digest_function: the server knows SHA-1 by the length of the hash.

    With a cache only: for execution bazel 4 insists on the one function that the server names.
    """
    cache = ("//:upper", f"--remote_cache={server.grpc_url}", "--spawn_strategy=local")
    for name, where in (("one", "local"), ("two", "remote cache hit")):
        sha1 = replace(bazel(name), startup=("--digest_function=SHA1",))
        build = sha1("build", *cache)
        assert build.actions == {where: 1}
        assert build.output("out/upper.txt").read_text() == "HELLO WORLD\n"
    assert bazel("three")("build", *cache).actions == {"local": 1}


def test_a_failing_action_shows_its_own_error(tools: Tools, server: Server, tmp_path: Path) -> None:
    build = """
genrule(name = "broken", outs = ["never"], cmd = "echo to-out; echo to-err >&2; exit 7")
sh_test(name = "red_test", size = "small", srcs = ["red_test.sh"])
"""
    script = "#!/bin/sh\necho wrong at `date +%s.%N`\nexit 5\n"
    workspace = write_workspace(tmp_path, {"BUILD": build, "red_test.sh": script})
    bazel = Bazel(tools=tools, machine=tmp_path / "one", workspace=workspace)
    executor = (f"--remote_executor={server.grpc_url}", *REMOTE)
    broken = bazel("build", "//:broken", *executor, status=1)
    assert "to-out" in broken.text
    assert "to-err" in broken.text
    assert "Exit 7" in broken.text or "exit 7" in broken.text
    logs = []
    for _ in range(2):
        red = bazel("test", "//:red_test", *executor, status=3)
        logs.append(red.test_log("red_test"))
    assert all("wrong at" in log for log in logs)
    assert logs[0] != logs[1], "a failed test was served from the cache"


def test_large_outputs_travel_whole(tools: Tools, server: Server, tmp_path: Path) -> None:
    build = """
genrule(name = "large", outs = ["large"], cmd = "head -c 40000000 /dev/zero | tr '\\\\0' x > $@")
genrule(name = "size", srcs = [":large"], outs = ["size"], cmd = "wc -c < $< > $@")
"""
    workspace = write_workspace(tmp_path, {"BUILD": build})
    executor = ("//...", f"--remote_executor={server.grpc_url}", *REMOTE)
    for name, where in (("one", "remote"), ("two", "remote cache hit")):
        bazel = Bazel(tools=tools, machine=tmp_path / name, workspace=workspace)
        result = bazel("build", *executor)
        assert result.actions == {where: 2}
        assert result.output("large").read_bytes() == b"x" * 40_000_000
        assert result.output("size").read_text().strip() == "40000000"
