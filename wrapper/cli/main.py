"""`cargo distbuild`: cargo with the wrapper, and what the wrapper has to say of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from wrapper.home import BY_HAND, Home

USAGE = """\
usage: cargo distbuild <cargo command> [options]   run cargo with shared, cached compiles
       cargo distbuild stats [--json]              how the units of the last build went
       cargo distbuild timings [FILE]              the same over time, as a page
       cargo distbuild why-miss CRATE              what changed in its key since the time before
       cargo distbuild doctor                      what is missing here, with its remedy
       cargo distbuild config [--json]             every setting and where it is made
       cargo distbuild stop                        stop the daemon and the embedded server
       distbuild serve [options]                   a team's server; distbuild --help has the others

settings, in [distbuild] of .cargo/config.toml or as variables:
  remote    DISTBUILD_REMOTE    grpc://HOST:PORT, grpcs://HOST:PORT, unix:PATH, none (the default),
                                or embedded: a server on this machine, started when it is needed
  instance  DISTBUILD_INSTANCE  the server's instance name
  home      DISTBUILD_HOME      local cache and daemon state (default: cargo-distbuild in the
                                user's cache directory)
The others are shown by `cargo distbuild config`.
"""

_BUILDS = (
    *("b", "build", "c", "check", "clippy", "d", "doc", "r", "run", "t", "test", "bench", "rustc"),
    *("fix", "install", "package", "publish"),
)
"""What compiles something, unless all is fresh: other commands may have nothing to do with it."""

_OF_SHELLS = (
    *("IFS", "OPTIND", "PPID", "PWD", "OLDPWD", "PS1", "PS2", "PS4", "MAILCHECK", "LINENO"),
    *("SHLVL", "_"),
)
"""For these a shell has values of its own."""


def main() -> int:
    """Entry point of `cargo-distbuild`, which cargo calls with `distbuild` as first argument."""
    _take_given_environment()
    arguments = sys.argv[1:]
    if arguments[:1] == ["distbuild"]:
        arguments = arguments[1:]
    if arguments[:1] == ["--as-wrapper"]:
        from wrapper.cli.shim_entry import become_shim

        return become_shim(arguments[1:])
    if arguments[:1] == ["--summary"]:
        return _end_build(Home.of(os.environ), arguments[1], int(arguments[2]))
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    from wrapper.config import ConfigError, from_files, variables_of

    given = dict(os.environ)
    try:
        os.environ.update(variables_of(from_files(Path.cwd(), given), given))
        code = _run(Home.of(os.environ), arguments, given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # whoever reads, such as `head`, has seen enough; Python writes the rest when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ConfigError as error:
        print(f"error: distbuild: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"error: distbuild: {what}", file=sys.stderr)
        return 2


def _take_given_environment() -> None:
    """Have what the shell script before this was given, and could not hand on."""
    given = os.environb.pop(b"DISTBUILD_GIVEN", None)
    if given is None:
        return
    for name in _OF_SHELLS:
        os.environ.pop(name, None)
    pairs = (pair.partition(b"=") for pair in given.split(b"\1"))
    os.environb.update({name: value for name, equals, value in pairs if name and equals})


def _run(home: Home, arguments: Sequence[str], given: dict[str, str]) -> int:
    """Run a command; `given` is the environment without what configuration files set."""
    command, rest = arguments[0], arguments[1:]
    if command.startswith("+"):
        said = " ".join(["cargo", command, "distbuild", *rest])
        print(f"error: distbuild: rustup takes a toolchain first: {said}", file=sys.stderr)
        return 2
    if command == "stats":
        from wrapper.cli.stats_command import show_stats

        return show_stats(home, rest)
    if command == "timings":
        from wrapper.cli.stats_command import write_timings

        return write_timings(home, rest)
    if command == "why-miss":
        from wrapper.cli.why_miss import why_miss

        return why_miss(home, rest)
    if command == "doctor":
        from wrapper.cli.doctor import doctor

        return doctor(home, rest, given)
    if command == "config":
        from wrapper.cli.config_command import show_config

        return show_config(home, rest, given)
    if command == "stop":
        from wrapper.cli.control import stop_all

        return stop_all(home)
    return run_cargo(home, arguments)


def run_cargo(home: Home, arguments: Sequence[str]) -> int:
    """Run cargo with the shim as RUSTC_WRAPPER; its exit code, then one line of summary."""
    from wrapper.cli.control import replace_outdated_daemon, start_daemon_early
    from wrapper.cli.live import is_quiet
    from wrapper.stats import forget_empty, new_build_id, start_build

    environment = dict(os.environ)
    if "LC_CTYPE" in environment and not _is_given("LC_CTYPE"):
        del environment["LC_CTYPE"]  # Python's own doing (PEP 538): cargo is to have none
    build = new_build_id()
    try:
        replace_outdated_daemon(home)
        is_starting = start_daemon_early(home)
        shim = prepare(home, environment)
        start_build(home, build)
        environment |= {"RUSTC_WRAPPER": str(shim), "DISTBUILD_BUILD": build}
        environment["DISTBUILD_STARTING"] = "1" if is_starting else ""
        _prepare_launcher(home)
    except OSError as error:
        from wrapper.shim.install import without_it

        print(without_it(error, "building"), file=sys.stderr)
        build = ""
    cargo = environment.get("CARGO", "cargo")
    _set_jobs(home, arguments, environment)
    live = _live_title(home, build, arguments, environment) if build else nullcontext()
    ended = _run_to_end([cargo, *arguments], environment, live)
    code = ended if ended >= 0 else 128 - ended
    is_none = build and arguments[0] not in _BUILDS and forget_empty(home, build)
    if build and not is_none and not is_quiet(arguments, environment):
        _end_build(home, build, code)
    if ended == -signal.SIGINT:  # as cargo did, so that a script in which this is ends, too
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return code


def _run_to_end(
    command: Sequence[str], environment: dict[str, str], live: AbstractContextManager[object]
) -> int:
    """How a command ended. Ctrl-C reaches it by itself, other signals by this process, which stays
    to say how the build went."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command, env=environment, preexec_fn=_default_interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, lambda received, _: process.send_signal(received))
        with live:
            return process.wait()
    finally:
        signal.signal(signal.SIGINT, previous)


def _is_given(variable: str) -> bool:
    """Whether this process was started with it."""
    try:
        given = Path("/proc/self/environ").read_bytes()
    except OSError:
        return True
    return f"\0{variable}=".encode() in b"\0" + given


def _end_build(home: Home, build: str, code: int) -> int:
    """Say how the build went, and forget old ones; returns `code`."""
    from wrapper.cli.stats_command import print_summary
    from wrapper.stats import forget_old_builds, was_without_daemon

    print_summary(home, build)
    if was_without_daemon(home, build):
        said = "the daemon could not be started: what is compiled has no cache"
        print(f"warning: distbuild: {said}; see `cargo distbuild doctor`", file=sys.stderr)
    forget_old_builds(home)
    return code


def _live_title(
    home: Home, build: str, arguments: Sequence[str], environment: dict[str, str]
) -> AbstractContextManager[object]:
    """What shows remote work while it is entered; nothing where nobody would see it."""
    if not sys.stderr.isatty():
        return nullcontext()
    from wrapper.cli.live import LiveTitle, is_wanted
    from wrapper.stats import build_file

    if not is_wanted(sys.stderr, arguments, environment):
        return nullcontext()
    return LiveTitle(build_file(home, build), sys.stderr)


def _set_jobs(home: Home, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Have cargo start as many units as there are cores here and slots on workers, once known.

    The daemon writes the number down, and keeps local compiles within the local cores.
    """
    if "CARGO_BUILD_JOBS" in environment or any(_is_jobs(each) for each in arguments):
        return
    if environment.get("DISTBUILD_JOBS"):
        environment["CARGO_BUILD_JOBS"] = environment["DISTBUILD_JOBS"]
    elif environment.get("DISTBUILD_REMOTE", "none") != "none":
        words = home.jobs.read_text().split() if home.jobs.exists() else []
        if len(words) == 2 and words[0] == environment["DISTBUILD_REMOTE"]:
            environment |= {"CARGO_BUILD_JOBS": words[1], "DISTBUILD_RAISED": "1"}


def _is_jobs(argument: str) -> bool:
    return argument.startswith(("--jobs", "-j"))


def prepare(home: Home, environment: dict[str, str]) -> os.PathLike[str]:
    """Install the shim and check the settings. Raises OSError."""
    from wrapper.shim.install import startable_shim

    other = environment.get("RUSTC_WRAPPER")
    shim = startable_shim(home)
    if other and os.path.basename(other) not in (BY_HAND, shim.name):
        print(f"warning: distbuild: takes the place of RUSTC_WRAPPER={other}", file=sys.stderr)
    return shim


def _prepare_launcher(home: Home) -> None:
    """Have the launcher before the first build script is compiled, where it came compiled itself;
    else while cargo goes on, as it takes as long as the shim."""
    from wrapper.shim.install import ensure_launcher, has_built_launcher

    def prepare_it() -> None:
        with contextlib.suppress(OSError):  # build scripts run as ever, and `doctor` says why
            ensure_launcher(home)

    if has_built_launcher():
        prepare_it()
    else:
        threading.Thread(target=prepare_it).start()


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
