"""Statistics of builds, and the directory that they lie in."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import threading
from dataclasses import fields, replace
from pathlib import Path

import pytest
from running import BIN

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.home import Home, RemoteSettings, short_socket_directory
from wrapper.meter import Meter, meter, start_meter
from wrapper.stats import (
    KEPT_BUILDS,
    OUTCOMES,
    SCRIPT_RUN,
    UnitStat,
    add_execution,
    add_not_kept,
    add_unit,
    add_upload,
    build_file,
    forget_empty,
    forget_old_builds,
    last_build,
    made_in_seconds,
    new_build_id,
    start_build,
    summary,
    was_without_daemon,
)
from wrapper.wording import BUILT_ELSEWHERE


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def unit(crate: str = "a", outcome: str = "hit-local", seconds: float = 0.25) -> UnitStat:
    worker = "worker-1" if outcome == "remote" else None
    reason = "probe" if outcome == "local" else None
    return UnitStat(
        crate=crate, kind="lib", outcome=outcome, worker=worker, reason=reason, seconds=seconds
    )


def test_a_build(home: Home) -> None:
    assert last_build(home) is None
    for outcome in (*OUTCOMES, "remote"):
        add_unit(home, "b-1", unit(f"crate-{outcome}", outcome))
    assert last_build(home) == "b-1"
    found = summary(home, "b-1")
    assert found["totals"] == {
        "hit-local": 1, "hit-remote": 1, "remote": 2, "local": 1, "units": 5, "seconds": 1.25,
        "saved": 0, "downloaded": 0, "uploaded": 0, "runs": 0, "run_hits": 0,
        "elsewhere": 0,
    }  # fmt: skip
    assert found["reasons"] == {"probe": 1}
    assert [u["crate"] for u in found["units"]][:2] == ["crate-hit-local", "crate-hit-remote"]
    assert set(found["units"][0]) == {field.name for field in fields(UnitStat)}
    assert found["units"][2]["worker"] == "worker-1"
    assert found["units"][3]["reason"] == "probe"


def test_a_build_without_units_is_the_last_one(home: Home) -> None:
    add_unit(home, "one", unit())
    os.utime(build_file(home, "one"), (1, 1))
    start_build(home, "two")
    assert last_build(home) == "two"
    assert summary(home, "two") == {
        "units": [],
        "runs": [],
        "totals": dict.fromkeys(
            (
                *OUTCOMES,
                "units",
                "runs",
                "run_hits",
                "elsewhere",
                "seconds",
                "saved",
                "downloaded",
                "uploaded",
            ),
            0,
        ),
        "reasons": {},
        "run_reasons": {},
    }


def test_why_a_result_is_not_kept_takes_the_place_of_why_it_was_not_known(home: Home) -> None:
    new = [replace(unit(name, "local"), kind=SCRIPT_RUN, reason="new") for name in "abc"]
    for run in new:
        add_unit(home, "b", run)
    add_unit(home, "b", unit("a", "local"))
    add_not_kept(home, "b", new[0], "odd")
    add_not_kept(home, "b", new[2], "odd")
    found = summary(home, "b")
    assert [run["reason"] for run in found["runs"]] == ["odd", "new", "odd"]
    assert found["run_reasons"] == {"odd": 2, "new": 1}
    assert (found["reasons"], found["totals"]["runs"]) == ({"probe": 1}, 3)


def test_what_stands_on_what_plain_cargo_built_is_counted(home: Home) -> None:
    reason = f"its dependency b-1 {BUILT_ELSEWHERE}"
    for why in (reason, f"{reason}; not kept: odd", "odd", None):
        add_unit(home, "b", replace(unit("a", "local"), reason=why))
    assert summary(home, "b")["totals"]["elsewhere"] == 2


def test_a_command_that_compiles_nothing_is_no_build(home: Home) -> None:
    add_unit(home, "one", unit())
    start_build(home, "two")
    assert forget_empty(home, "two")
    assert not forget_empty(home, "two")
    assert not forget_empty(home, "one")
    assert last_build(home) == "one"


def test_what_comes_late_makes_no_build_the_last_one(home: Home) -> None:
    late = unit("a", "local")
    for build in ("cargo-2-1", "cargo-1-1"):
        add_unit(home, build, late)
    os.utime(build_file(home, "cargo-2-1"), (1, 1))
    add_not_kept(home, "cargo-2-1", late, "odd")
    add_upload(home, "cargo-2-1", 5)
    assert summary(home, "cargo-2-1")["reasons"] == {"odd": 1}
    assert last_build(home) == "cargo-1-1"


def test_runs_of_build_scripts_are_no_units(home: Home) -> None:
    add_unit(home, "b", unit(outcome="hit-remote"))
    for outcome in ("hit-local", "local"):
        add_unit(home, "b", replace(unit(outcome=outcome), kind=SCRIPT_RUN))
    found = summary(home, "b")
    totals = found["totals"]
    counted = [totals[name] for name in ("units", "hit-remote", "hit-local", "local")]
    assert counted == [1, 1, 0, 0]
    assert (totals["runs"], totals["run_hits"]) == (2, 1)
    assert [run["outcome"] for run in found["runs"]] == ["hit-local", "local"]
    assert [each["kind"] for each in found["units"]] == ["lib"]
    assert found["reasons"] == {}


def test_time_saved_is_that_of_hits_that_know_it(home: Home) -> None:
    for outcome, made_in in (("hit-local", 2.0), ("hit-remote", 1.0), ("hit-local", None)):
        add_unit(home, "b", replace(unit(outcome=outcome, seconds=0.5), made_in=made_in))
    add_unit(home, "b", replace(unit(outcome="remote"), made_in=7.0))
    assert summary(home, "b")["totals"]["saved"] == 2.0


def test_bytes_that_come_late_count(home: Home) -> None:
    add_unit(home, "b", replace(unit(), downloaded=10, uploaded=1))
    add_execution(home, "b", "a")
    add_upload(home, "b", 5)
    found = summary(home, "b")
    assert (found["totals"]["downloaded"], found["totals"]["uploaded"]) == (10, 6)
    assert len(found["units"]) == 1


def test_reasons_by_how_often(home: Home) -> None:
    for reason in ("x", "y", "y"):
        add_unit(home, "b", replace(unit(outcome="local"), reason=reason))
    assert list(summary(home, "b")["reasons"].items()) == [("y", 2), ("x", 1)]


def test_how_long_a_result_took_to_make() -> None:
    result = re_pb.ActionResult()
    assert made_in_seconds(result) is None
    metadata = result.execution_metadata
    metadata.execution_start_timestamp.FromMilliseconds(1000)
    assert made_in_seconds(result) is None
    metadata.execution_completed_timestamp.FromMilliseconds(2500)
    assert made_in_seconds(result) == 1.5


def test_a_meter_counts_for_its_own_call() -> None:
    late: list[int] = []
    asked: list[str] = []

    def call(name: str) -> Meter:
        mine = start_meter(lambda: asked.append(name))
        meter().received(3)
        meter().executing()
        meter().sent(4)
        mine.close(late.append)
        meter().sent(5)
        return mine

    first = contextvars.copy_context().run(call, "a")
    second = contextvars.copy_context().run(call, "b")
    assert (first.downloaded, first.executions, second.downloaded) == (3, 1, 3)
    assert (late, asked) == ([5, 5], ["a", "b"])
    meter().sent(1)  # nobody's
    assert late == [5, 5]


def test_odd_texts_survive(home: Home) -> None:
    reason = 'reads "/w\udcff/ü"\nand more'
    stat = UnitStat(
        crate="a\n{", kind="lib", outcome="local", worker=None, reason=reason, seconds=0.1
    )
    add_unit(home, "b", stat)
    add_unit(home, "b", unit())
    found = summary(home, "b")["units"]
    assert (found[0]["crate"], found[0]["reason"]) == ("a\n{", reason)
    assert len(found) == 2


@pytest.mark.parametrize(("seconds", "said"), [(5, True), (-30, True), (-90, False)])
def test_a_daemon_that_could_not_be_started(home: Home, seconds: int, said: bool) -> None:
    """For a minute nobody tries again, and each build of that has no cache."""
    began = 1_700_000_000
    assert not was_without_daemon(home, f"{began}{'0' * 9}-1")
    home.path.mkdir(exist_ok=True)
    home.daemon_failed.touch()
    os.utime(home.daemon_failed, (began + seconds, began + seconds))
    assert was_without_daemon(home, f"{began}{'0' * 9}-1") == said


def test_only_the_newest_builds_are_kept(home: Home) -> None:
    for number in range(KEPT_BUILDS + 5):
        start_build(home, f"b-{number}")
        os.utime(build_file(home, f"b-{number}"), (number, number))
    forget_old_builds(home)
    names = {path.stem for path in home.builds.iterdir()}
    assert names == {f"b-{number}" for number in range(5, KEPT_BUILDS + 5)}


def test_parallel_units_do_not_mix(home: Home) -> None:
    def add(number: int) -> None:
        for i in range(50):
            add_unit(home, "b", unit(f"{number}-{i}-" + "x" * 3000))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = summary(home, "b")
    assert found["totals"]["units"] == 200
    assert len({u["crate"] for u in found["units"]}) == 200


def test_parallel_builds_start_without_harm(home: Home) -> None:
    """Old files vanish under those who look at them."""
    errors: list[BaseException] = []

    def start(number: int) -> None:
        try:
            for i in range(60):
                start_build(home, f"b-{number}-{i}")
                last_build(home)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=start, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_ids_are_file_names() -> None:
    assert new_build_id().replace("-", "").isalnum()
    assert new_build_id() != new_build_id()


def test_where_the_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Home.of({"DISTBUILD_HOME": "/d"}).path == Path("/d")
    assert Home.of({"DISTBUILD_HOME": "rel"}).path == tmp_path / "rel"
    assert Home.of({"XDG_CACHE_HOME": "/c"}).path == Path("/c/cargo-distbuild")
    assert Home.of({}).path == tmp_path / ".cache" / "cargo-distbuild"


def test_which_server() -> None:
    assert RemoteSettings.of({}) == RemoteSettings(url=None, instance="")
    assert RemoteSettings.of({"DISTBUILD_REMOTE": ""}).url is None
    found = RemoteSettings.of({"DISTBUILD_REMOTE": "grpc://h:1", "DISTBUILD_INSTANCE": "i"})
    assert found == RemoteSettings(url="grpc://h:1", instance="i")


@pytest.mark.parametrize("length", [10, 70, 80, 81, 300, 3000])
def test_sockets_fit_an_address(length: int) -> None:
    home = Home(Path("/" + "é" * (length // 2)))
    directory = short_socket_directory(home)
    assert len(os.fsencode(directory / "server.sock")) < 108
    other = short_socket_directory(Home(home.path / "x"))
    assert directory != other


@pytest.mark.parametrize("count", [1, 2000])
def test_a_reader_that_has_seen_enough(home: Home, count: int) -> None:
    """As with `cargo distbuild stats | head`: no words about it, and no success."""
    for number in range(count):
        add_unit(home, "b-1", unit(f"crate-{number}"))
    process = subprocess.Popen(
        [BIN / "cargo-distbuild", "stats"], env={**os.environ, "DISTBUILD_HOME": str(home.path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE
    process.stderr.close()


def test_a_line_that_a_full_disk_cut_short(home: Home) -> None:
    add_unit(home, "b", unit("a"))
    path = build_file(home, "b")
    path.write_bytes(path.read_bytes()[:-20] + b"\n")
    add_unit(home, "b", unit("b"))
    assert [each["crate"] for each in summary(home, "b")["units"]] == ["b"]
