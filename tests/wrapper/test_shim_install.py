"""Installing the shim: once, at a path whose size and time cargo can rely on."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wrapper.home import Home
from wrapper.shim import install
from wrapper.shim.install import ensure_launcher, ensure_shim

INSTALLED = sorted(
    [
        *("rustc-shim", "rustc-shim.version", "start-daemon"),
        *("asked-variables.so", "asked-variables.version"),
        *("build-script-launcher", "build-script-launcher.version"),
    ]
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home for which nothing was built when the package was installed."""
    monkeypatch.setattr(install, "BUILT", tmp_path / "nothing")
    return Home(tmp_path / "a home")


def test_what_was_built_with_the_package_is_taken(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "BUILT", tmp_path / "built")
    install.build_programs(tmp_path / "built")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert usage(ensure_shim(home)).returncode == 2
    ensure_launcher(home)
    assert is_compiled(home.shim)
    assert is_compiled(home.launcher)


@pytest.mark.parametrize("damage", ["does not run here", "of other sources"])
def test_what_was_built_elsewhere_is_not(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    built = tmp_path / "built"
    monkeypatch.setattr(install, "BUILT", built)
    install.build_programs(built)
    for program in list(built.iterdir()):
        if damage == "of other sources":
            program.rename(built / f"{program.name[:-1]}x")
        else:
            program.write_text("#!/bin/sh\nexit 127\n")
    assert usage(ensure_shim(home)).returncode == 2
    assert is_compiled(home.shim)


def usage(shim: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([shim], capture_output=True, text=True, timeout=60, check=False)


def is_compiled(shim: Path) -> bool:
    return shim.read_bytes().startswith(b"\x7fELF")


def test_the_compiled_shim(home: Home) -> None:
    shim = ensure_shim(home)
    assert shim == home.shim
    assert is_compiled(shim)
    assert os.access(shim, os.X_OK)
    done = usage(shim)
    assert done.returncode == 2
    assert "RUSTC_WRAPPER" in done.stderr


def test_the_home_is_the_users_alone(home: Home) -> None:
    ensure_shim(home)
    assert home.path.stat().st_mode & 0o077 == 0


def test_nothing_is_touched_the_second_time(home: Home) -> None:
    """cargo asks rustc everything anew when the wrapper's size or times change."""

    def state() -> dict[str, tuple[int, int, int]]:
        files = sorted((home.path / "bin").iterdir())
        return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns, f.stat().st_size) for f in files}

    ensure_shim(home)
    ensure_launcher(home)
    before = state()
    ensure_shim(home)
    ensure_launcher(home)
    after = state()
    # the stamp says when the shim was last found current; cargo does not look at it
    stamp = "rustc-shim.version"
    assert after.pop(stamp)[1] >= before[stamp][1]
    assert after.items() <= before.items()
    assert sorted(before) == INSTALLED


@pytest.mark.parametrize("damage", ["shim gone", "version gone", "another version"])
def test_what_is_missing_or_old_is_replaced(home: Home, damage: str) -> None:
    shim = ensure_shim(home)
    stamp = home.path / "bin" / "rustc-shim.version"
    if damage == "shim gone":
        shim.unlink()
    elif damage == "version gone":
        stamp.unlink()
        shim.write_text("old")
    else:
        stamp.write_text("0")
        shim.write_text("old")
    assert usage(ensure_shim(home)).returncode == 2


@pytest.mark.parametrize("compiler", [None, "exit 1"])
def test_without_a_working_compiler_the_python_shim_is_taken(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str | None
) -> None:
    """None: no compiler; else what it does."""
    tools = tmp_path / "tools"
    tools.mkdir()
    if compiler is not None:
        (tools / "cc").write_text(f"#!/bin/sh\n{compiler}\n")
        (tools / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    shim = ensure_shim(home)
    assert not is_compiled(shim)
    assert shim.read_bytes().startswith(f"#!{sys.executable} -IS\n".encode())
    assert os.access(shim, os.X_OK)
    ensure_launcher(home)
    assert not home.launcher.exists()
    before = shim.stat().st_mtime_ns
    assert ensure_shim(home).stat().st_mtime_ns == before


def test_a_launcher_of_another_version_goes_when_none_can_be_made(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would speak to the daemon as no launcher does any more."""
    ensure_shim(home)
    ensure_launcher(home)
    assert is_compiled(home.launcher)
    home.launcher.with_suffix(".version").write_text("0")
    monkeypatch.setenv("PATH", str(tmp_path))
    ensure_launcher(home)
    assert not home.launcher.exists()


def test_many_at_once_leave_one_whole_shim(home: Home) -> None:
    """cargo distbuild in several terminals; each is a process of its own."""
    program = (
        "import sys; from pathlib import Path; from wrapper.home import Home;"
        "from wrapper.shim.install import ensure_launcher, ensure_shim;"
        "home = Home(Path(sys.argv[1])); ensure_shim(home); ensure_launcher(home)"
    )
    root = str(Path(__file__).parents[2])

    def in_a_process(_: int) -> int:
        command = [sys.executable, "-c", program, str(home.path)]
        done = subprocess.run(command, cwd=root, timeout=100, check=False)
        return done.returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(in_a_process, range(4))) == [0] * 4
    names = sorted(path.name for path in (home.path / "bin").iterdir())
    assert names == INSTALLED
    assert usage(home.shim).returncode == 2


def test_the_start_script_finds_the_package_from_anywhere(home: Home, tmp_path: Path) -> None:
    """A home with odd characters; `wrapper.daemon` is found though it is not installed."""
    odd = Home(tmp_path / 'it\'s "a" $home')
    ensure_shim(odd)
    script = odd.start_daemon.read_text()
    assert script.startswith("#!/bin/sh\n")
    shown = script.replace(shlex.quote(sys.executable), "printf '%s\\n' python", 1)
    done = subprocess.run(
        ["/bin/sh"], input=shown, cwd="/", capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["python", "-m", "wrapper.daemon", str(odd.path)]
