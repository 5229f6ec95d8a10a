"""What a daemon does about the compiler before its own modules are there."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from wrapper.daemon.compiler_question import CompilerQuestion
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.hashing import FileIdentity
from wrapper.inputs.toolchain_files import files_of, toolchain_parts

TRIPLE = "x86_64-unknown-linux-gnu"
FUNCTION = DigestFunction.BLAKE3
FILES = {
    "bin/rustc": b"driver",
    "lib/librustc_driver.so": b"library" * 50_000,
    "lib/notes.txt": b"no library",
    f"lib/rustlib/{TRIPLE}/lib/libstd.rlib": b"std" * 100_000,
    f"lib/rustlib/{TRIPLE}/bin/rust-lld": b"linker",
    f"lib/rustlib/{TRIPLE}/lib/empty": b"",
    "lib/rustlib/wasm32-unknown-unknown/lib/libstd.rlib": b"of another target",
    "share/doc/readme": b"not needed",
}
NEEDED = {name for name in FILES if not name.startswith(("share", "lib/notes", "lib/rustlib/wasm"))}

HASH_AHEAD = """
import json, os, sys
from remote_apis.digest_functions import DigestFunction
from wrapper.daemon.toolchain_ahead import hash_ahead
hashed = hash_ahead(sys.argv[1], DigestFunction.BLAKE3)
print(json.dumps(hashed()))
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    sys.exit(0)
sys.exit("a process is left")
"""


def toolchain(directory: Path, name: str = f"stable-{TRIPLE}") -> Path:
    """Files of a compiler; they are old enough to be remembered."""
    for path, content in FILES.items():
        (directory / name / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / name / path).write_bytes(content)
    time.sleep(0.1)
    return directory / name


def ahead(sysroot: Path) -> dict[FileIdentity, str]:
    done = subprocess.run(
        [sys.executable, "-c", HASH_AHEAD, sysroot], capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    return {FileIdentity(*identity): hash_ for identity, hash_ in json.loads(done.stdout)}


def test_all_that_a_compile_needs_is_hashed(tmp_path: Path) -> None:
    sysroot = toolchain(tmp_path)
    wanted = {
        FileIdentity.of((sysroot / name).stat()): Digest.of(FILES[name], FUNCTION).hash
        for name in NEEDED
    }
    assert ahead(sysroot) == wanted
    parts = toolchain_parts(str(sysroot), TRIPLE, "rustc", None)
    assert set(files_of(str(sysroot), parts)) == {f"{sysroot}/{name}" for name in NEEDED}


def test_what_is_no_toolchain_of_rustups_is_left_to_who_needs_it(tmp_path: Path) -> None:
    assert ahead(toolchain(tmp_path, "of my own")) == {}
    assert ahead(tmp_path / "nothing") == {}


def test_a_file_just_written_is_hashed_again(tmp_path: Path) -> None:
    sysroot = toolchain(tmp_path)
    driver = sysroot / "bin" / "rustc"
    os.utime(driver, ns=(0, time.time_ns() + 10**12))
    assert FileIdentity.of(driver.stat()) not in ahead(sysroot)


LEFT_ALONE = """
import fcntl, os, signal, sys
from remote_apis.digest_functions import DigestFunction
from wrapper.daemon import toolchain_ahead
toolchain_ahead._hashes = lambda *_: iter([["x" * 1_000_000]])
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
fork, children = os.fork, []
os.fork = lambda: children.append(fork()) or children[-1]
toolchain_ahead.ThreadPoolExecutor.submit = lambda *_: None
try:
    toolchain_ahead.hash_ahead("/none", DigestFunction.BLAKE3)
except AttributeError:
    pass
print(children[0], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_daemon_that_is_killed_leaves_neither_lock_nor_process(tmp_path: Path) -> None:
    """Though what was hashed is more than a pipe takes, and nobody reads it."""
    lock = tmp_path / "lock"
    done = subprocess.run(
        [sys.executable, "-c", LEFT_ALONE, lock], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 60
    while Path(f"/proc/{done.stdout.strip()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_hashes_on_their_way_are_waited_for_once(tmp_path: Path) -> None:
    """By whoever comes first, and by all others too; what they do not say is hashed."""
    (known, unknown) = (tmp_path / "known", tmp_path / "unknown")
    for path in (known, unknown):
        path.write_bytes(b"bytes")
    may_end, calls = threading.Event(), []

    def hashed() -> list[tuple[FileIdentity, str]]:
        calls.append(1)
        assert may_end.wait(60)
        return [(FileIdentity.of(known.stat()), "0" * 64)]

    time.sleep(0.1)
    files = FileDigests(FUNCTION)
    files.expect(hashed)
    found: dict[Path, Digest] = {}
    threads = [
        threading.Thread(target=lambda path=path: found.update({path: files.digest_mapped(path)}))
        for path in (known, unknown)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert found == {}
    may_end.set()
    for thread in threads:
        thread.join(60)
    assert found[known].hash == "0" * 64
    assert found[unknown] == Digest.of(b"bytes", FUNCTION)
    assert calls == [1]


def test_the_compiler_is_the_one_beside_cargo(tmp_path: Path) -> None:
    sysroot = toolchain(tmp_path)
    question = CompilerQuestion({"CARGO": f"{sysroot}/bin/cargo"})
    assert question.sysroot == str(sysroot)
    assert question.answer() == f"{sysroot}/bin/rustc"


@pytest.mark.parametrize("environment", [{}, {"CARGO": "/nowhere/bin/cargo"}, {"CARGO": "cargo"}])
def test_else_rustc_is_asked(tmp_path: Path, environment: dict[str, str]) -> None:
    program = tmp_path / "rustc"
    program.write_text('#!/bin/sh\n[ "$*" = "--print sysroot" ] && echo /the/sysroot\n')
    program.chmod(0o755)
    question = CompilerQuestion({**environment, "RUSTC": str(program)})
    assert question.sysroot is None
    assert question.answer() == "/the/sysroot/bin/rustc"


def test_another_compiler_than_cargos_is_asked_for(tmp_path: Path) -> None:
    sysroot = toolchain(tmp_path)
    question = CompilerQuestion({"CARGO": f"{sysroot}/bin/cargo", "RUSTC": "/nowhere/rustc"})
    assert question.sysroot is None
    with pytest.raises(OSError, match="/nowhere/rustc"):
        question.answer()
