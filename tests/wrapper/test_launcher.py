"""The launcher in a build script's place, compiled, driven by a small daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import filters
import pytest
from answering import Answer, answering

from tests.wrapper.reason_texts import provokes
from tests.wrapper.test_shim import SECONDS, SOURCES, STRICT, Done, finish, is_alive
from wrapper.build_scripts.accesses import OTHER_RIGHTS, decode
from wrapper.build_scripts.launcher import real_name, trailer
from wrapper.daemon.protocol import Call, Reply, WatchedRun
from wrapper.home import Home

LAUNCHER = [str(SOURCES / name) for name in ("launcher.c", "watch.c", "daemon.c")]
TOUCHES = Path(__file__).parent / "touches.c"
WRAPPED = {"RUSTC_WRAPPER": "/x", "PATH": os.environ["PATH"]}


@dataclass
class Launcher:
    """A launcher before a script; `served` gives it a daemon, `run` runs it."""

    directory: Path
    launcher: bytes
    runs: list[WatchedRun] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    @property
    def program(self) -> Path:
        return self.directory / "target" / "build-script-build"

    @property
    def script(self) -> Path:
        return self.program.with_name(real_name("build_script_build-1"))

    def place(self, script: bytes) -> None:
        """The script, and the launcher in its place."""
        self.script.parent.mkdir(exist_ok=True)
        self.script.write_bytes(script)
        home = Home(self.directory)
        end = trailer(home, self.script.name, "/the workspace")
        self.program.write_bytes(self.launcher + end)
        for path in (self.script, self.program):
            path.chmod(0o755)

    def python(self, text: str) -> None:
        """A script in Python."""
        self.place(f"#!{sys.executable} -IS\n{text}\n".encode())

    def served(self, answer: Answer) -> contextlib.AbstractAsyncContextManager[None]:
        """Answer every call so."""
        return answering(self.directory, self.calls, answer)

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self.program, *arguments, cwd=self.directory, env=WRAPPED | environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str, **environment: str) -> Done:
        return await finish(await self.start(*arguments, **environment))

    async def watched(self, *arguments: str, stands: bool = True) -> tuple[Done, WatchedRun]:
        """A watched run that stands, or is run again."""

        async def answer(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
            self.runs.append(await reply.watch({"GIVEN": "by daemon"}))
            if stands:
                reply.let_stand()
            else:
                reply.exec_rustc()

        async with self.served(answer):
            done = await self.run(*arguments)
        return done, self.runs[-1]

    def accesses(self) -> set[tuple[str, str]]:
        return set(decode(self.runs[-1].accesses))

    def troubles(self) -> set[str]:
        return {path for kind, path in self.accesses() if kind == "!"}


@pytest.fixture(scope="session", params=["c", "sanitized"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    program = tmp_path_factory.mktemp("launcher") / "launcher"
    sanitize = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    options = [*STRICT, *(sanitize if request.param == "sanitized" else [])]
    subprocess.run(["cc", *options, "-o", program, *LAUNCHER], check=True, timeout=SECONDS)
    return program.read_bytes()


@pytest.fixture(scope="session", params=[[], ["-static"]], ids=["dynamic", "static"])
def touches(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    program = tmp_path_factory.mktemp("touches") / "touches"
    command = ["cc", *STRICT, *request.param, "-o", program, TOUCHES]
    subprocess.run(command, check=True, timeout=SECONDS)
    return program.read_bytes()


@pytest.fixture
def launcher(compiled: bytes, tmp_path: Path) -> Launcher:
    return Launcher(tmp_path, compiled)


NOISY = """import os, sys
os.write(1, b"out %s" % os.environ.get("GIVEN", "none").encode())
os.write(2, b"err " + " ".join(sys.argv[1:]).encode())
sys.exit(int(os.environ.get("CODE", "0")))"""


async def test_every_way_to_ask_for_a_file(launcher: Launcher, touches: bytes) -> None:
    launcher.place(touches)
    place = launcher.directory / "place"
    (place / "sub").mkdir(parents=True)
    done, run = await launcher.watched(str(place))
    assert (done.code, run.status) == (0, 0)
    names = done.stdout.decode().split()
    assert len(names) > 25
    noted = {os.path.normpath(path) for _, path in launcher.accesses()}
    assert {str(place / name) for name in names} <= noted
    two = {"linkat", "renameat2", "renameat", "link", "rename"} & set(names)
    assert {str(place / f"{name}.to") for name in two} <= noted
    assert ("l", f"{place}/elsewhere") in {(k, os.path.normpath(p)) for k, p in launcher.accesses()}
    assert launcher.troubles() == set()


async def test_kinds_of_accesses(launcher: Launcher) -> None:
    place = launcher.directory / "p"
    place.mkdir()
    (place / "there").write_text("x")
    launcher.python(f"""import os
os.chdir({str(place)!r})
open("there").read(); os.path.exists("absent"); open("new", "w"); open("there", "a")
os.rename("new", "newer"); os.mkdir("d"); os.remove("newer"); os.listdir("."); os.rmdir("d")
try: os.mkdir(".")
except OSError: pass
os.mkdir("from"); os.mkdir("onto"); os.rename("from", "onto")
""")
    await launcher.watched()
    seen = {(kind, os.path.relpath(path, place)) for kind, path in launcher.accesses()}
    wanted = {
        ("o", "there"), ("s", "absent"), ("c", "new"), ("m", "there"), ("m", "new"),
        ("c", "newer"), ("c", "d"), ("m", "newer"), ("o", "."), ("m", "d"), ("s", "."),
        ("m", "onto"),
    }  # fmt: skip
    assert wanted <= seen
    assert ("x", "../target/build_script_build-1.real") in seen


async def test_odd_names(launcher: Launcher) -> None:
    place = os.fsencode(launcher.directory)
    names = [b"new\nline", b"\xff\xfe", b"x" * 255, b" ", b"'\"!"]
    launcher.python(f"import os\nfor n in {names!r}: os.path.exists({place!r} + b'/' + n)")
    await launcher.watched()
    assert {("s", os.fsdecode(place + b"/" + name)) for name in names} <= launcher.accesses()


async def test_children_and_threads(launcher: Launcher) -> None:
    launcher.python("""import os, subprocess, threading
t = threading.Thread(target=lambda: os.path.exists("/by/thread")); t.start(); t.join()
subprocess.run(["/bin/sh", "-c", "test -e /by/child; exec /by/exec"], stderr=-3)
os.waitpid(os.posix_spawn("/bin/ls", ["ls", "/by/spawn"], {}), 0)
if os.fork() == 0:
    if os.fork() == 0: os.path.exists("/by/grandchild"); os._exit(0)
    os.wait(); os._exit(0)
os.wait()
""")
    done, _ = await launcher.watched()
    assert done.code == 0
    paths = {path for _, path in launcher.accesses()}
    assert {f"/by/{name}" for name in ("thread", "child", "exec", "spawn", "grandchild")} <= paths
    assert ("x", "/bin/ls") in launcher.accesses()
    assert ("x", "/by/exec") not in launcher.accesses()
    assert launcher.troubles() == set()


async def test_thousands_of_accesses(launcher: Launcher) -> None:
    count = 5000
    tail = "d" * 100
    launcher.python(f"import os\nfor n in range({count}): os.path.exists('/no/{tail}/%d' % n)")
    await launcher.watched()
    noted = [path for kind, path in decode(launcher.runs[-1].accesses) if path.startswith("/no/")]
    assert noted == [f"/no/{tail}/{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("import socket; socket.socket(socket.AF_INET)", "it opens a network socket"),
        (
            "import socket; s = socket.socket(socket.AF_UNIX)\n"
            "try: s.connect(b'\\0abstract')\nexcept OSError: pass",
            "it talks to another program over a socket",
        ),
        (
            "import subprocess; subprocess.run(['cc', '-march=native', '-E', '-x', 'c',"
            " '/dev/null'], stdout=-3)",
            "it compiles for this machine's own processor",
        ),
        pytest.param(
            "import ctypes, struct; how = struct.pack('QQQ', 0, 0, 0x10)\n"
            "ctypes.CDLL(None).syscall(437, -100, b'/etc/passwd', how, 24)",
            "it names a file that cannot be seen",
            id="in another root",
        ),
    ],
)
async def test_what_reaches_farther(launcher: Launcher, code: str, trouble: str) -> None:
    launcher.python(code)
    done, _ = await launcher.watched()
    assert done.stderr == b""
    assert launcher.troubles() == {trouble}


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600, 5000])
@pytest.mark.parametrize("length", [20, 95, 96, 97, 3000])
async def test_every_argument_is_looked_at(launcher: Launcher, count: int, length: int) -> None:
    """Wherever it stands, and however long it is."""
    text = "-m" + "a" * (length - 9) + "=native"
    launcher.python(
        f"import subprocess; subprocess.run(['true', *['x' * 90] * {count}, '{text}', 'y'])"
    )
    await launcher.watched()
    assert launcher.troubles() == {"it compiles for this machine's own processor"}
    launcher.python(f"import subprocess; subprocess.run(['true', *['x' * 90] * {count}, 'native'])")
    await launcher.watched()
    assert launcher.troubles() == set()


@pytest.fixture(params=["user", "root"])
def someones(
    request: pytest.FixtureRequest, compiled: bytes
) -> Iterator[tuple[Launcher, int | None]]:
    """A launcher, and the user to start it as, if another."""
    is_other = os.geteuid() == 0 and request.param == "user"
    with tempfile.TemporaryDirectory(prefix="distbuild-test-") as directory:
        os.chmod(directory, 0o755)
        yield Launcher(Path(directory), compiled), 65534 if is_other else None


async def test_a_program_with_other_rights(someones: tuple[Launcher, int | None]) -> None:
    """It would have none under watch."""
    launcher, user = someones
    tool = launcher.directory / "tool"
    shutil.copy("/bin/true", tool)
    tool.chmod(0o4755)
    launcher.place(f"#!/bin/sh\n{tool}\n".encode())

    async def answer(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        launcher.runs.append(await reply.watch({}))
        reply.let_stand()

    async with launcher.served(answer):
        (launcher.directory / "daemon.sock").chmod(0o777)
        process = await asyncio.create_subprocess_exec(
            launcher.program, cwd="/", env=WRAPPED, stdin=-1, stdout=-1, stderr=-1, user=user
        )
        assert await finish(process) == Done(0, b"", b"")
    (trouble,) = launcher.troubles()
    assert trouble == OTHER_RIGHTS
    provokes("it runs a program with another user's rights", trouble)
    assert ("x", "/bin/sh") in launcher.accesses()


async def test_a_program_run_by_descriptor(launcher: Launcher) -> None:
    launcher.python("""import os
fd = os.open("/bin/true", os.O_RDONLY)
os.execve(fd, ["true"], {})""")
    done, _ = await launcher.watched()
    assert done.code == 0
    assert any(kind == "x" and path.endswith("/true") for kind, path in launcher.accesses())


async def test_the_interpreter_of_a_script(launcher: Launcher) -> None:
    """The kernel opens it, and no call names it."""
    tool = launcher.directory / "tool"
    tool.write_text("#! /bin/sh -e\nexit 0\n")
    tool.chmod(0o755)
    launcher.python(f"import os\nos.execv({str(tool)!r}, ['tool'])")
    done, _ = await launcher.watched()
    assert done.code == 0
    assert {("x", str(tool)), ("x", "/bin/sh"), ("x", sys.executable)} <= launcher.accesses()


async def test_a_run_that_stands(launcher: Launcher) -> None:
    launcher.python(NOISY)
    done, run = await launcher.watched("a b")
    assert done == Done(0, b"out by daemon", b"err a b")
    assert (run.status, run.stdout, run.stderr) == (0, b"out by daemon", b"err a b")
    (call,) = launcher.calls
    assert call.kind == "script"
    assert call.argv == (str(launcher.script), "/the workspace")
    assert call.parent == os.getpid()


async def test_a_run_that_is_run_again_unwatched(launcher: Launcher) -> None:
    """Its words come once, without what the daemon set."""
    launcher.python(NOISY + '\nif "GIVEN" in os.environ: sys.exit(1)')
    launcher.python(NOISY.replace('"0")))', '"0")) + ("GIVEN" in os.environ))'))
    done, run = await launcher.watched(stands=False)
    assert os.waitstatus_to_exitcode(run.status) == 1
    assert done == Done(0, b"out none", b"err ")


async def test_a_known_result(launcher: Launcher) -> None:
    launcher.python("import sys; sys.exit('was run')")
    big = os.urandom(1_000_000)

    async def answer(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        reply.finish(stdout=big, stderr=b"e\0", exit_code=0)

    async with launcher.served(answer):
        assert await launcher.run() == Done(0, big, b"e\0")


async def test_output_of_any_size(launcher: Launcher) -> None:
    launcher.python("import os\nfor n in range(3000): os.write(1 + n % 2, b'%d' % (n % 10) * 2000)")
    done, run = await launcher.watched()
    assert done == Done(0, run.stdout, run.stderr)
    assert (len(run.stdout), len(run.stderr)) == (3_000_000, 3_000_000)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
async def test_a_script_that_a_signal_ends(launcher: Launcher, number: signal.Signals) -> None:
    limit = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    launcher.python(f"{limit} os.write(2, b'dying'); os.kill(os.getpid(), {int(number)})")
    for stands in (False, True):
        done, run = await launcher.watched(stands=stands)
        assert (done.code, done.stderr) == (-number, b"dying")
        assert os.WTERMSIG(run.status) == number


@pytest.mark.parametrize("how", ["no daemon", "no wrapper", "leave it", "gone at once"])
async def test_it_becomes_the_script(launcher: Launcher, how: str) -> None:
    launcher.python(NOISY + "\n")

    async def answer(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        if how == "leave it":
            reply.exec_rustc()

    async with launcher.served(answer) if how != "no daemon" else contextlib.nullcontext():
        wrapped = {"RUSTC_WRAPPER": "/x"} if how != "no wrapper" else {}
        process = await asyncio.create_subprocess_exec(
            launcher.program, "x", cwd=launcher.directory, stdin=-1, stdout=-1, stderr=-1,
            env={"CODE": "3"} | wrapped,
        )  # fmt: skip
        done = await finish(process)
    assert done == Done(3, b"out none", b"err x")
    assert len(launcher.calls) == (how in ("leave it", "gone at once"))


@pytest.mark.parametrize("code", [0, 5])
async def test_a_daemon_that_dies_midway(launcher: Launcher, code: int) -> None:
    launcher.python(NOISY)

    async def answer(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        writer.write(b"R\0\0\0\0")
        await writer.drain()

    async with launcher.served(answer):
        assert await launcher.run("x", CODE=str(code)) == Done(code, b"out none", b"err x")


async def test_what_a_script_leaves_running_goes_on(launcher: Launcher) -> None:
    """It asks for files when nobody watches any more."""
    late = launcher.directory / "late"
    launcher.python(f"""import os, time
if os.fork() == 0:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3): os.dup2(null, fd)
    time.sleep(1.5)
    with open({str(late)!r}, "w") as file: file.write(str(os.path.exists("/usr")))
    os._exit(0)
print("left")""")
    done, _ = await launcher.watched()
    assert done == Done(0, b"left\n", b"")
    assert launcher.troubles() == {"it leaves a program running"}
    async with asyncio.timeout(SECONDS):
        while not late.exists() or not late.read_text():
            await asyncio.sleep(0.05)
        while watchers(launcher.program):
            await asyncio.sleep(0.05)
    assert late.read_text() == "True"


def watchers(program: Path) -> list[str]:
    """Processes that are this launcher."""
    found = []
    for exe in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            found += [exe.parent.name] if os.readlink(exe) == str(program) else []
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
async def test_a_launcher_that_a_signal_ends(launcher: Launcher, number: signal.Signals) -> None:
    """The script ends with it, and is not run again behind a build that is over."""
    launcher.python(
        "import os, time; print(os.getpid(), file=open('pids', 'a'), flush=True); time.sleep(60)"
    )

    async def answer(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        await reply.watch({})
        reply.exec_rustc()

    note = launcher.directory / "pids"
    async with launcher.served(answer):
        process = await launcher.start()
        async with asyncio.timeout(SECONDS):
            while not note.exists() or not note.read_text():
                await asyncio.sleep(0.05)
            process.send_signal(number)
            assert (await finish(process)).code == -number
            while is_alive(int(note.read_text())):  # one number
                await asyncio.sleep(0.05)


async def test_a_launcher_that_was_cut(launcher: Launcher) -> None:
    launcher.python(NOISY)
    launcher.program.write_bytes(launcher.program.read_bytes()[:-3])
    done = await launcher.run()
    assert (done.code, done.stderr) == (
        1, b"error: this file was cut; remove the target directory\n",
    )  # fmt: skip


async def test_a_machine_that_does_not_let_programs_be_watched(launcher: Launcher) -> None:
    launcher.python(NOISY)

    async def answer(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        launcher.runs.append(await reply.watch({"GIVEN": "anyway"}))
        reply.let_stand()

    async with launcher.served(answer):
        process = await asyncio.create_subprocess_exec(
            sys.executable, filters.__file__, launcher.program, "x", cwd=launcher.directory,
            env=WRAPPED, stdin=-1, stdout=-1, stderr=-1,
        )  # fmt: skip
        assert await finish(process) == Done(0, b"out anyway", b"err x")
    (trouble,) = launcher.troubles()
    provokes("this machine does not let programs be watched: …", trouble)


async def test_a_launcher_under_another_ones_watch(launcher: Launcher) -> None:
    """There is one watcher a process: the inner one runs its script, and says so."""
    launcher.python(f"""import os, subprocess
if os.environ.get("LEVEL") is None:
    done = subprocess.run([{str(launcher.program)!r}], env=dict(os.environ, LEVEL="2"))
    raise SystemExit(done.returncode)
print("inner", flush=True)""")

    async def answer(call: Call, reply: Reply, writer: asyncio.StreamWriter) -> None:
        launcher.runs.append(await reply.watch({}))
        reply.let_stand()

    async with launcher.served(answer):
        assert await launcher.run() == Done(0, b"inner\n", b"")
    inner, outer = launcher.runs
    assert b"does not let programs be watched" in inner.accesses
    assert b"does not let programs be watched" not in outer.accesses


async def test_without_proc_it_is_the_script(launcher: Launcher) -> None:
    launcher.python(NOISY)
    command = f"mount -t tmpfs none /proc && exec {launcher.program} x"
    process = await asyncio.create_subprocess_exec(
        "unshare", "--map-root-user", "--mount", "sh", "-c", command, cwd=launcher.directory,
        env=WRAPPED, stdin=-1, stdout=-1, stderr=-1,
    )  # fmt: skip
    done = await finish(process)
    assert (done.code, done.stdout) == (0, b"out none")
    assert done.stderr.endswith(b"err x")  # the sanitizer wants /proc for itself
