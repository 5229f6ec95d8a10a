"""The /etc that actions see in bubblewrap."""

from __future__ import annotations

from pathlib import Path

from worker.sandbox.system_view import SystemView


def machine(tmp_path: Path) -> Path:
    etc = tmp_path / "machine"
    (etc / "alternatives").mkdir(parents=True)
    (etc / "alternatives" / "cc").symlink_to("/usr/bin/gcc")
    (etc / "ld.so.conf.d").mkdir()
    (etc / "ld.so.conf.d" / "a.conf").write_text("/opt/lib\n")
    (etc / "ld.so.cache").write_bytes(b"cache")
    (etc / "java-99").mkdir()
    (etc / "shadow").write_text("secret")
    return etc


def shown(view: SystemView) -> Path:
    """What is mounted as /etc."""
    arguments = view.arguments()
    return Path(arguments[arguments.index("/etc") - 1])


def test_what_programs_need_and_nothing_else(tmp_path: Path) -> None:
    etc = machine(tmp_path)
    view = SystemView(tmp_path / "view", [1001, 1002], host=etc)
    assert sorted(path.name for path in shown(view).iterdir()) == [
        *("alternatives", "group", "hosts", "java-99", "ld.so.cache", "ld.so.conf.d"),
        *("nsswitch.conf", "passwd"),
    ]
    assert (shown(view) / "alternatives" / "cc").readlink() == Path("/usr/bin/gcc")
    assert (shown(view) / "ld.so.conf.d" / "a.conf").read_text() == "/opt/lib\n"
    users = (shown(view) / "passwd").read_text().splitlines()
    assert [line.split(":")[2] for line in users if line.startswith("build:")] == ["1001", "1002"]
    arguments = view.arguments()
    assert arguments[arguments.index("/etc/java-99") - 1] == str(etc / "java-99")


def test_what_changes_on_the_machine_is_seen_by_the_next_action(tmp_path: Path) -> None:
    etc = machine(tmp_path)
    view = SystemView(tmp_path / "view", [1001], host=etc)
    before = shown(view)
    assert shown(view) == before
    (etc / "new").write_bytes(b"another")
    (etc / "new").rename(etc / "ld.so.cache")
    assert (shown(view) / "ld.so.cache").read_bytes() == b"another"
    # An action that began before still sees this.
    assert (before / "ld.so.cache").read_bytes() == b"cache"
    (etc / "alternatives" / "c++").symlink_to("/usr/bin/g++")
    assert (shown(view) / "alternatives" / "c++").readlink() == Path("/usr/bin/g++")
    (etc / "ld.so.conf").write_text("include ld.so.conf.d/*.conf\n")
    assert (shown(view) / "ld.so.conf").exists()
