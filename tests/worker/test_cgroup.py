"""Control groups for actions; what can be tested depends on what this machine hands over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.cgroup import ControlGroups, beyond_groups, find_control_groups
from worker.config import ResourceLimits
from worker.process import Child


@pytest.fixture
def base() -> Iterator[Path]:
    """An empty group of cgroup v2, with whatever controllers there are."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"]
    if not places or not os.access(places[0], os.W_OK):
        pytest.skip("needs cgroup v2 and the right to make groups")
    path = places[0] / f"distbuild-test-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        path.rmdir()


async def test_an_action_is_in_its_group_from_its_first_moment(base: Path, tmp_path: Path) -> None:
    groups = ControlGroups(base)
    with (tmp_path / "out").open("wb") as out, groups.group(ResourceLimits()) as group:
        command = [*group.wrapper, "/bin/sh", "-c", "cat /proc/self/cgroup; exit 7"]
        child = Child(command, environment={}, stdout=out.fileno(), stderr=out.fileno())
        assert await child.wait() == 7
        assert not group.ran_out_of_memory
    where = f"0::/{base.name}/"
    assert any(line.startswith(where) for line in (tmp_path / "out").read_text().splitlines())
    assert not list(base.glob("action-*"))


async def test_what_is_left_in_a_group_is_killed(base: Path, tmp_path: Path) -> None:
    groups = ControlGroups(base)
    with (tmp_path / "out").open("wb") as out:
        with groups.group(ResourceLimits()) as group:
            command = [*group.wrapper, "/bin/sleep", "600"]
            child = Child(command, environment={}, stdout=out.fileno(), stderr=out.fileno())
            while str(child.pid) not in (group.path / "cgroup.procs").read_text().split():
                pass
        assert await child.wait() == -9
    groups.close()
    assert not list(base.glob("action-*"))


def test_no_groups_without_the_right_to_make_them(tmp_path: Path) -> None:
    own, mounts = tmp_path / "cgroup", tmp_path / "mountinfo"
    own.write_text("9:name=systemd:/\n")
    mounts.write_text("30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n")
    assert find_control_groups(mounts, own) is None
    mount = tmp_path / "mount" / "service"
    mount.mkdir(parents=True)
    own.write_text("0::/service\n")
    mounts.write_text(f"30 20 0:26 / {tmp_path}/mount rw - cgroup2 cgroup2 rw\n")
    for controllers in ("", "cpu io", "cpu memory pids"):
        (mount / "cgroup.controllers").write_text(controllers)
        assert find_control_groups(mounts, own) is None
    assert [path.name for path in mount.iterdir()] == ["cgroup.controllers"]


def test_this_machine_is_understood() -> None:
    groups = find_control_groups()
    assert groups is None or isinstance(groups, ControlGroups)


def test_what_rlimits_still_have_to_do() -> None:
    limits = ResourceLimits(
        cpu_seconds=5, cpus=1.5, memory_bytes=10**9, processes=100, file_bytes=10**6
    )
    assert beyond_groups(limits) == ResourceLimits(cpu_seconds=5, file_bytes=10**6)
