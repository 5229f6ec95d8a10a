"""Both shims, driven by a small daemon that speaks the real protocol.

The "rustc" of these tests is a Python program given as `-c` text, so that each test sees at once
what the command does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from answering import Answer, answering

import wrapper.shim
from wrapper.daemon.protocol import Call, LocalRun, Reply

SOURCES = Path(wrapper.shim.__file__).parent
SHIM = (SOURCES / "shim.c", SOURCES / "daemon.c", SOURCES / "given.c")
PYTHON = [sys.executable, "-IS", "-c"]
PLAIN = [*PYTHON, "print('plain rustc')"]
SECONDS = 60
PATH_ALONE = {"PATH": os.environ["PATH"]}
MASKS = [shutil.which("grep") or "grep"]
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-pthread"]


@dataclass
class Done:
    """How a shim ended."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass
class Shim:
    """An installed shim; `serve` gives it a daemon, `run` runs it."""

    home: Path
    kind: str
    calls: list[Call] = field(default_factory=list)

    @property
    def program(self) -> Path:
        return self.home / "bin" / "rustc-shim"

    def serve(self, script: Answer) -> contextlib.AbstractAsyncContextManager[None]:
        """A daemon that answers every call by `script`; what goes wrong in it is raised here."""
        return answering(self.home, self.calls, script)

    async def start(
        self, *command: str, env: dict[str, str] | None = None, pass_fds: tuple[int, ...] = ()
    ) -> asyncio.subprocess.Process:
        """Start the shim as cargo would, for the command of a rustc."""
        return await asyncio.create_subprocess_exec(
            self.program, *command, cwd=self.home, env=env, pass_fds=pass_fds,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *command: str, stdin: bytes = b"", **options: dict[str, str]) -> Done:
        """Run the shim to its end."""
        process = await self.start(*command, **options)  # type: ignore[arg-type]
        return await finish(process, stdin)

    async def answered(self, script: Answer, *command: str, stdin: bytes = b"") -> Done:
        """Run the shim with a daemon that answers by `script`."""
        async with self.serve(script):
            return await self.run(*command, stdin=stdin)


async def finish(process: asyncio.subprocess.Process, stdin: bytes = b"") -> Done:
    """Wait for the end of a shim."""
    async with asyncio.timeout(SECONDS):
        stdout, stderr = await process.communicate(stdin)
    assert process.returncode is not None
    return Done(process.returncode, stdout, stderr)


def install(kind: str, program: Path) -> None:
    if kind == "python":
        source = (SOURCES / "fallback.py").read_bytes()
        program.write_bytes(f"#!{sys.executable} -IS\n".encode() + source)
        program.chmod(0o755)
        return
    sanitize = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    options = [*STRICT, *(sanitize if kind == "sanitized" else [])]
    compiler = ["cc", *options, "-o", str(program), *map(str, SHIM)]
    subprocess.run(compiler, check=True, timeout=SECONDS)


@pytest.fixture(scope="session", params=["c", "sanitized", "python"])
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    program = tmp_path_factory.mktemp(f"shim-{request.param}") / "rustc-shim"
    install(request.param, program)
    return request.param, program


@pytest.fixture(autouse=True)
def _of_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """cargo says which crate a call is for."""
    monkeypatch.setenv("CARGO_CRATE_NAME", "c")


@pytest.fixture
def shim(installed: tuple[str, Path], tmp_path: Path) -> Shim:
    kind, program = installed
    # longer than a socket address may be
    home = tmp_path / ("home-" * 20)
    (home / "bin").mkdir(parents=True)
    shutil.copy2(program, home / "bin" / "rustc-shim")
    return Shim(home, kind)


async def let_it(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
    """The daemon that always leaves it to rustc."""
    reply.exec_rustc()


def tracked(
    replacements: list[tuple[str, str]], runs: list[LocalRun], extra: tuple[str, ...] = ()
) -> Answer:
    """The daemon that has rustc run under the shim, with further arguments."""

    async def script(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        runs.append(await reply.run([*call.argv, *extra], replacements))

    return script


async def test_the_request_says_all(shim: Shim) -> None:
    odd = os.fsdecode(b"a\xffb")
    environment = {"PATH": os.environ["PATH"], "A": "1=2", "EMPTY": "", "ODD": f"{odd}\n'"}
    environment["CARGO_CRATE_NAME"] = "c"
    async with shim.serve(let_it):
        process = await shim.start(*PLAIN, "-C", "x y", "", odd, env=environment)
        await finish(process)
    (call,) = shim.calls
    assert call.parent == os.getpid()
    assert call.cwd == str(shim.home)
    assert call.argv == (*PLAIN, "-C", "x y", "", odd)
    assert call.environment.items() >= environment.items()


async def test_replaying(shim: Shim) -> None:
    big = os.urandom(3_000_000)

    async def script(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        reply.finish(stdout=big, stderr=b"\0a\n" + big[:1000], exit_code=0)

    assert await shim.answered(script, *PLAIN) == Done(0, big, b"\0a\n" + big[:1000])


@pytest.mark.parametrize("code", [0, 1, 101])
async def test_replaying_nothing_but_a_code(shim: Shim, code: int) -> None:
    async def script(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        reply.finish(stdout=b"", stderr=b"", exit_code=code)

    assert await shim.answered(script, *PLAIN) == Done(code, b"", b"")


async def test_a_word_to_the_user_is_seen_once(
    shim: Shim, capfd: pytest.CaptureFixture[str]
) -> None:
    async def script(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        reply.tell_user("warning: distbuild: slow")
        reply.exec_rustc()

    done = await shim.answered(script, *PLAIN)
    assert (done.code, done.stdout) == (0, b"plain rustc\n")
    # ours is cargo's here; what came on the shim's own would be shown with every later build
    assert capfd.readouterr().err == "warning: distbuild: slow\n"
    assert done.stderr == b""


IDENTITY = """import json, os, sys
fds = sorted(f for f in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{f}"))
print(json.dumps([os.getpid(), sys.argv[1:], sys.stdin.read(), os.getcwd(),
                  dict(os.environ), fds]))
sys.exit(3)
"""


async def test_exec_is_as_if_there_were_no_shim(shim: Shim) -> None:
    """The same process, arguments, stdin, directory, environment and descriptors."""
    read, write = os.pipe()  # like cargo's jobserver
    command = [*PYTHON, IDENTITY, "-C", "x y", ""]
    direct = subprocess.run(
        command, input=b"source", cwd=shim.home, pass_fds=(read, write), capture_output=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    async with shim.serve(let_it):
        process = await shim.start(*command, pass_fds=(read, write))
        done = await finish(process, b"source")
    os.close(read)
    os.close(write)
    assert done.code == direct.returncode == 3
    assert done.stderr == b""
    wanted, found = json.loads(direct.stdout), json.loads(done.stdout)
    assert found[0] == process.pid
    assert found[1:] == wanted[1:]


async def test_what_is_no_unit_is_not_for_the_daemon(
    shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cargo and build scripts ask the compiler what it can do."""
    monkeypatch.delenv("CARGO_CRATE_NAME")
    done = await shim.answered(let_it, *PLAIN)
    assert (done.code, done.stdout, done.stderr) == (0, b"plain rustc\n", b"")
    assert shim.calls == []


@pytest.mark.parametrize("how", ["exec", "tracked"])
async def test_signals_are_as_if_there_were_no_shim(shim: Shim, how: str) -> None:
    command = [*MASKS, "^Sig[BIC]", "/proc/self/status"]
    direct = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
    script = let_it if how == "exec" else tracked([], [])
    done = await shim.answered(script, *command)
    assert signal_sets(done.stdout) == signal_sets(direct.stdout)


def signal_sets(status: bytes) -> list[tuple[bytes, int]]:
    """Blocked, ignored and caught signals, without 32 and 33, which are libc's own."""
    words = [line.split() for line in status.splitlines()]
    return [(name, int(mask, 16) & 0x7FFFFFFF) for name, mask in words]


NOISY = """import os, sys
pieces = (b'{"a":"/rec/ws/x"}\\n/re', b'c/ws/y and /rec/wsx', b' /real/rec/ws/\\n',
          b'\\n\\xff/rec/ws/')
for piece in pieces:
    os.write(2, piece)
os.write(1, b'out /rec/ws/ ' + ' '.join(sys.argv[1:]).encode())
sys.exit(7)
"""
NOISE = b'{"a":"/rec/ws/x"}\n/rec/ws/y and /rec/wsx /real/rec/ws/\n\n\xff/rec/ws/'


async def test_a_tracked_run(shim: Shim) -> None:
    runs: list[LocalRun] = []
    pairs = [("/rec/ws/", "/real/rec/ws/"), ("/none", "/x")]
    script = tracked(pairs, runs, ("--remap-path-prefix=/a=/b",))
    done = await shim.answered(script, *PYTHON, NOISY)
    assert done.code == 7
    assert done.stdout == b"out /rec/ws/ --remap-path-prefix=/a=/b"
    assert done.stderr == NOISE.replace(b"/rec/ws/", b"/real/rec/ws/")
    (run,) = runs
    assert run.stderr == NOISE
    assert os.WIFEXITED(run.status)
    assert os.WEXITSTATUS(run.status) == 7


async def test_the_first_replacement_that_fits_is_taken_and_only_once(shim: Shim) -> None:
    runs: list[LocalRun] = []
    pairs = [
        ("/cargo/registry/src/a/", "/usr/local/cargo/registry/src/a/"),
        ("/cargo/registry/", "/usr/local/cargo/registry/"),
        ("", "never"),
    ]
    text = "/cargo/registry/src/a/x /cargo/registry/y"
    command = [*PYTHON, f"import sys; sys.stderr.write({text!r})"]
    done = await shim.answered(tracked(pairs, runs), *command)
    wanted = "/usr/local/cargo/registry/src/a/x /usr/local/cargo/registry/y"
    assert done.stderr.decode() == wanted
    assert runs[0].stderr.decode() == text


async def test_stderr_of_any_size_comes_in_order(shim: Shim) -> None:
    runs: list[LocalRun] = []
    program = """import os
for n in range(300):
    os.write(2, b"%d " % n + b"/a/" * (n * 40) + b"\\n")
os.write(2, b"x" * 200000 + b"/a/")
"""
    done = await shim.answered(tracked([("/a/", "/bcd/")], runs), *PYTHON, program)
    sent = b"".join(b"%d " % n + b"/a/" * (n * 40) + b"\n" for n in range(300))
    sent += b"x" * 200000 + b"/a/"
    assert runs[0].stderr == sent
    assert done.stderr == sent.replace(b"/a/", b"/bcd/")


async def test_lines_are_passed_on_at_once(shim: Shim) -> None:
    """cargo starts dependents when the artifact message comes, long before rustc ends."""
    runs: list[LocalRun] = []
    program = "import sys; print('early', file=sys.stderr, flush=True); sys.stdin.read()"
    async with shim.serve(tracked([], runs)):
        process = await shim.start(*PYTHON, program)
        assert process.stderr is not None
        async with asyncio.timeout(SECONDS):
            assert await process.stderr.readline() == b"early\n"
        assert process.returncode is None
        await finish(process)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
async def test_death_by_a_signal_is_handed_on(shim: Shim, number: signal.Signals) -> None:
    runs: list[LocalRun] = []
    limit = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    program = f"{limit} os.write(2, b'dying'); os.kill(os.getpid(), {int(number)})"
    done = await shim.answered(tracked([], runs), *PYTHON, program)
    assert done.code == -number
    assert done.stderr == b"dying"
    assert os.WIFSIGNALED(runs[0].status)
    assert os.WTERMSIG(runs[0].status) == number


WAITING = """import os, signal, sys, time
def on(number, frame):
    print("got", number, flush=True)
    sys.exit(9)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, on)
print("pid", os.getpid(), file=sys.stderr, flush=True)
time.sleep(60)
"""


async def started_pid(process: asyncio.subprocess.Process) -> int:
    """The process id that a waiting rustc says on stderr."""
    assert process.stderr is not None
    async with asyncio.timeout(SECONDS):
        return int((await process.stderr.readline()).split()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signals_reach_rustc(shim: Shim, number: signal.Signals) -> None:
    runs: list[LocalRun] = []
    async with shim.serve(tracked([], runs)):
        process = await shim.start(*PYTHON, WAITING)
        await started_pid(process)
        process.send_signal(number)
        done = await finish(process)
    assert (done.code, done.stdout) == (9, b"got %d\n" % number)
    assert os.WEXITSTATUS(runs[0].status) == 9


async def test_who_is_told_to_end_does_not_try_again(shim: Shim) -> None:
    """A trial that Ctrl-C ended says nothing about the sandbox."""
    runs: list[LocalRun] = []

    async def script(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            runs.append(await reply.run(call.argv, [], on_trial=True))
            runs.append(await reply.run(call.argv, []))

    async with shim.serve(script):
        said = 'print("pid", os.getpid(), file=sys.stderr, flush=True)'
        assert said in WAITING
        process = await shim.start(*PYTHON, WAITING.replace(said, 'os.write(1, b"ready\\n")'))
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        done = await finish(process)
    assert (done.code, done.stdout) == (9, b"got 2\n")
    assert runs == []


async def test_rustc_does_not_outlive_a_killed_shim(shim: Shim) -> None:
    async with shim.serve(tracked([], [])):
        process = await shim.start(*PYTHON, WAITING)
        pid = await started_pid(process)
        process.kill()
        deadline = time.monotonic() + 10
        try:
            while is_alive(pid) and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            assert not is_alive(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await finish(process)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_daemon_that_dies_under_a_tracked_run_changes_nothing(shim: Shim) -> None:
    program = """import os, sys, time
os.write(2, b"/a/ one\\n"); sys.stdin.read(); time.sleep(0.1)
for n in range(100): os.write(2, b"/a/ two\\n")
sys.exit(5)
"""

    async def script(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        strings = b"/a/\0/b/\0" + b"".join(os.fsencode(a) + b"\0" for a in call.argv)
        payload = struct.pack("<I", 1) + strings
        writer.write(b"T" + struct.pack("<I", len(payload)) + payload)

    done = await shim.answered(script, *PYTHON, program)
    assert done == Done(5, b"", b"/b/ one\n" + b"/b/ two\n" * 100)


@pytest.mark.parametrize("way", ["--with $$ MORE=1 --", "--from-shell $$ 1"])
async def test_what_a_shell_was_given(shim: Shim, way: str) -> None:
    """Also what it cannot hand on, or has a value of its own for."""
    script = f'PLAIN=another; "$0" {way} env; code=$?; exit "$code"'
    given = {"A-B": "it's", "IFS": "x", "PLAIN": "1", "": "odd", **PATH_ALONE}
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, str(shim.program), env=given,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stdout, _ = await process.communicate()
    said = set(stdout.decode().splitlines())
    assert {"A-B=it's", "IFS=x", "PLAIN=1"} <= said
    assert ("MORE=1" in said) == ("MORE" in way)


async def test_what_another_process_was_given_counts_for_nothing(shim: Shim) -> None:
    """That of a shell which was killed: whoever is the parent then is a stranger."""
    done = await shim.run("--with", "1", "MORE=1", "--", "env", env={"A-B": "own", **PATH_ALONE})
    assert {"A-B=own", "MORE=1"} <= set(done.stdout.decode().splitlines())


async def test_a_program_that_is_not_there(shim: Shim) -> None:
    done = await shim.run("--with", str(os.getpid()), "A=1", "--", "/no/such")
    assert (done.code, done.stderr) == (
        127,
        b"error: cannot run /no/such: No such file or directory\n",
    )
