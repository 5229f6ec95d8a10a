"""Settings from cargo's configuration files and the environment."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from running import BIN

from wrapper.config import (
    SETTINGS,
    ConfigError,
    Value,
    config_files,
    effective,
    from_files,
    read_file,
    variables_of,
    wrong_variables,
)
from wrapper.daemon.configs import Configs
from wrapper.daemon.protocol import Call


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_nearest_file_wins(tmp_path: Path) -> None:
    home, near = tmp_path / "home", tmp_path / "a" / "b"
    near.mkdir(parents=True)
    far = write(tmp_path / ".cargo/config.toml", '[distbuild]\nremote="none"\ninstance="far"\n')
    middle = write(tmp_path / "a/.cargo/config", '[distbuild]\ninstance = "middle"\n')
    write(tmp_path / "a/.cargo/config.toml", '[distbuild]\ninstance = "hidden by config"\n')
    own = write(home / "config.toml", '[distbuild]\njobs = 4\nremote = "embedded"\n')
    environment = {"CARGO_HOME": str(home)}
    assert config_files(near, environment) == [middle, far, own]
    assert from_files(near, environment) == {
        "instance": Value("middle", f"{middle}:2"),
        "remote": Value("none", f"{far}:2"),
        "jobs": Value("4", f"{own}:2"),
    }


def test_a_variable_wins_over_files(tmp_path: Path) -> None:
    write(tmp_path / ".cargo/config.toml", '[distbuild]\nremote = "none"\nlive = false\n')
    environment = {"DISTBUILD_REMOTE": "embedded", "HOME": str(tmp_path / "h")}
    found = effective(tmp_path, environment)
    assert found["remote"] == Value("embedded", "variable DISTBUILD_REMOTE")
    assert found["live"].text == "false"
    assert found["sandbox"] == Value("bubblewrap", "default")
    assert set(found) == {setting.key for setting in SETTINGS}
    assert variables_of(from_files(tmp_path, environment), environment) == {
        "DISTBUILD_LIVE": "false"
    }


def test_the_home_is_relative_to_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "ws/.cargo/config.toml", '[distbuild]\nhome = "cache"\n')
    assert read_file(path)["home"].text == str(tmp_path / "ws" / "cache")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[build]\njobs = 2\n\n[distbuild]\nremot = "none"\n', 5, "unknown key remot"),
        ('[distbuild]\n\nremote = "http://x"\n', 3, "must be grpc://HOST:PORT"),
        ('[distbuild]\njobs = "4"\n', 2, "must be a whole number"),
        ("[distbuild]\njobs = true\n", 2, "must be a whole number"),
        ("[distbuild]\njobs = 0\n", 2, "must be a number from 1 on"),
        ("[distbuild]\nlive = 1\n", 2, "must be true or false"),
        ('[distbuild]\nsandbox = "docker"\n', 2, "must be bubblewrap or none"),
        ("\ndistbuild = 3\n", 2, "must be a table"),
        ('distbuild.remote = "x"\n', 1, "must be grpc://HOST:PORT"),
        ('# c\ndistbuild = { remote = "x" }\n', 2, "must be grpc://HOST:PORT"),
        ('[build]\nremote = "x"\n["distbuild"]\n"remote" = "y"\n', 4, "must be grpc://HOST:PORT"),
        ("[distbuild]\n[distbuild.jobs]\na = 1\n", 2, "must be a whole number"),
        ("[distbuild]\nremote =\n", 2, "Invalid value"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, text: str, line: int, what: str
) -> None:
    path = write(tmp_path / "config.toml", text)
    with pytest.raises(ConfigError) as raised:
        read_file(path)
    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert what in str(raised.value)


@pytest.mark.parametrize(
    "remote", ["grpc://h:1", "grpcs://h.example:443", "unix:/run/x.sock", "embedded", "none"]
)
def test_servers(tmp_path: Path, remote: str) -> None:
    path = write(tmp_path / "config.toml", f'[distbuild]\nremote = "{remote}"\n')
    assert read_file(path)["remote"].text == remote
    assert wrong_variables({"DISTBUILD_REMOTE": remote}) == []


def test_variables_that_are_wrong() -> None:
    assert wrong_variables({"DISTBUILD_JOBS": "", "DISTBUILD_REMOTE": ""}) == []
    found = wrong_variables({"DISTBUILD_JOBS": "many"})
    assert found == ["DISTBUILD_JOBS must be a number from 1 on, and is 'many'"]


def call(directory: Path, **environment: str) -> Call:
    """A call of a cargo that runs here, for a package elsewhere."""
    home = {"CARGO_HOME": str(directory / "home")}
    return Call(parent=os.getpid(), cwd="/", argv=("rustc",), environment=home | environment)


def test_the_daemon_reads_them_for_cargos_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / ".cargo/config.toml", '[distbuild]\nremote = "none"\n')
    configs, told = Configs(), list[str]()
    found = configs.apply(call(tmp_path), told.append)
    assert found.configured == {"DISTBUILD_REMOTE": "none"}
    assert found.settings["DISTBUILD_REMOTE"] == "none"
    assert "DISTBUILD_REMOTE" not in found.environment
    given = configs.apply(call(tmp_path, DISTBUILD_REMOTE="embedded"), told.append)
    assert given.settings["DISTBUILD_REMOTE"] == "embedded"
    passed_on = configs.apply(call(tmp_path, DISTBUILD_BUILD="1"), told.append)
    assert passed_on.configured == {}
    write(path, '[distbuild]\nremote = "embedded"\n')  # of another size: seen at once
    assert configs.apply(call(tmp_path), told.append).settings["DISTBUILD_REMOTE"] == "embedded"
    assert told == []


def test_the_daemon_tells_once_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / ".cargo/config.toml", "[distbuild]\nfoo = 1\n")
    write(tmp_path / "home/config.toml", '[distbuild]\nremote = "none"\n')
    configs, told = Configs(), list[str]()
    for _ in range(2):
        found = configs.apply(call(tmp_path), told.append)
        assert found.configured == {"DISTBUILD_REMOTE": "none"}
    assert len(told) == 1 and f"{path}:2: unknown key foo" in told[0]


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DISTBUILD_")}
    kept |= {"CARGO_HOME": str(directory / "home"), "HOME": str(directory / "user")}
    return subprocess.run(
        [BIN / "cargo-distbuild", "distbuild", *arguments], cwd=directory, env=kept | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command(tmp_path: Path) -> None:
    path = write(tmp_path / ".cargo/config.toml", '[distbuild]\nhome = "cache"\njobs = 3\n')
    found = json.loads(run(tmp_path, "config", "--json", DISTBUILD_LIVE="false").stdout)
    assert found["home"] == {"value": str(tmp_path / "cache"), "origin": f"{path}:2"}
    assert found["jobs"] == {"value": "3", "origin": f"{path}:3"}
    assert found["live"] == {"value": "false", "origin": "variable DISTBUILD_LIVE"}
    assert found["remote"] == {"value": "none", "origin": "default"}
    text = run(tmp_path, "config").stdout
    assert f"{path}:3" in text and text.startswith("setting")
    wrong = run(tmp_path, "config", DISTBUILD_JOBS="x")
    assert wrong.returncode == 2 and "DISTBUILD_JOBS must be" in wrong.stderr


@pytest.mark.parametrize("command", ["build", "stats", "config", "doctor"])
def test_no_command_goes_on_with_a_wrong_file(tmp_path: Path, command: str) -> None:
    path = write(tmp_path / ".cargo/config.toml", "[distbuild]\nfoo = 1\n")
    done = run(tmp_path, command)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: distbuild: {path}:2: unknown key foo")


def test_cargo_gets_what_the_files_say(tmp_path: Path) -> None:
    cargo = write(tmp_path / "bin" / "cargo", "#!/bin/sh\nenv\n")
    cargo.chmod(0o755)
    write(
        tmp_path / ".cargo/config.toml",
        '[distbuild]\nremote = "unix:/x"\njobs = 7\ninstance = "i"\n',
    )
    given = {"CARGO": str(cargo), "DISTBUILD_HOME": str(tmp_path / "d"), "DISTBUILD_INSTANCE": "j"}
    done = run(tmp_path, "build", **given)
    environment = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert environment["DISTBUILD_REMOTE"] == "unix:/x"
    assert environment["DISTBUILD_INSTANCE"] == "j"
    assert environment["CARGO_BUILD_JOBS"] == "7"
    assert environment["RUSTC_WRAPPER"].startswith(str(tmp_path / "d"))
    done = run(tmp_path, "build", CARGO_BUILD_JOBS="2", **given)
    assert "CARGO_BUILD_JOBS=2\n" in done.stdout
    # the daemon starts beside cargo, also for one that asks nothing of it; and is found before
    # it has written down which process it is
    deadline = time.monotonic() + 30
    while not (tmp_path / "d" / "daemon.lock").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert "stopped the daemon" in run(tmp_path, "stop", **given).stdout
