"""`distbuild`: parse the command line, run one command, turn errors into one line and exit 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from remote_apis.errors import DistbuildError
from server.cli.admin_options import DEFAULT_SERVER, add_operations, add_workers
from server.cli.execution_options import execution_options
from server.config.options import (
    Option,
    add_options,
    choice,
    count,
    default_data_dir,
    directory,
    listen_address,
    size,
)

USAGE_ERROR = 2


class _Parser(argparse.ArgumentParser):
    """One clear line for a wrong option, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"error: {message} (see {self.prog} --help)\n")


def _server_options(environment: Mapping[str, str]) -> list[Option]:
    return [
        Option(name="listen", parse=listen_address, default="127.0.0.1:8980", metavar="ADDRESS",
               help="HOST:PORT or unix:PATH to serve on"),
        Option(name="data-dir", parse=directory, default=default_data_dir(environment),
               metavar="DIR", help="where blobs, results and operations are kept"),
        Option(name="max-size", parse=size, default=None, metavar="SIZE",
               help="evict blobs when they take more than this on disk"),
        Option(name="asset-fetch", parse=choice("off", "public", "any"), default="public",
               metavar="off|public|any",
               help="where the Remote Asset API may download from: nowhere, the public internet, "
               "or private addresses and this machine as well"),
    ]  # fmt: skip


def _serve_options() -> list[Option]:
    return [
        Option(name="workers", parse=count, default=str(os.cpu_count() or 1), metavar="N",
               help="workers on this machine"),
        *execution_options(),
    ]  # fmt: skip


def _worker_options(environment: Mapping[str, str]) -> list[Option]:
    cache = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [
        Option(name="server", parse=str, default=DEFAULT_SERVER, metavar="URL",
               help="the server to work for"),
        Option(name="id", parse=str, default=os.uname().nodename, metavar="NAME",
               help="the worker's name, shown in results"),
        Option(name="slots", parse=count, default=str(os.cpu_count() or 1), metavar="N",
               help="how many actions it runs at a time"),
        Option(name="port", parse=count, default=None, metavar="PORT",
               help="loopback port for /healthz and /metrics"),
        Option(name="cache-dir", parse=directory,
               default=os.path.join(cache, "cargo-distbuild", "worker"), metavar="DIR",
               help="where input blobs are kept"),
        Option(name="cache-size", parse=size, default="20G", metavar="SIZE",
               help="how much input blobs may take"),
        Option(name="cas", parse=str, default=None, metavar="URL",
               help="where blobs are, when the server has none: a Buildbarn scheduler"),
        Option(name="results", parse=choice("server", "worker"), default="server",
               metavar="server|worker", help="who writes results to the action cache; worker: "
               "for a Buildbarn scheduler, to where the blobs are"),
        Option(name="machine-properties", parse=choice("on", "off"), default="on",
               metavar="on|off", help="off: offer what --property says and nothing else; a "
               "Buildbarn scheduler gives a worker the actions that ask for just that"),
        Option(name="instance-prefix", parse=str, default="", metavar="NAME",
               help="work for the instance names under this one"),
        *execution_options(),
    ]  # fmt: skip


def build_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The command line. Raises InvalidRequest when an environment variable is wrong."""
    parser = _Parser(prog="distbuild", description="A Remote Execution API server and its workers")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve everything from this machine, with workers")
    add_options(serve, _server_options(environment) + _serve_options(), environment)
    _add_insecure(serve)
    scheduler = commands.add_parser("scheduler", help="the server without workers")
    scheduler_run = scheduler.add_subparsers(dest="action", required=True, metavar="run")
    run = scheduler_run.add_parser("run", help="serve CAS, ActionCache and Execution")
    add_options(run, _server_options(environment), environment)
    _add_insecure(run)
    worker = commands.add_parser("worker", help="a worker of a server elsewhere")
    worker_run = worker.add_subparsers(dest="action", required=True, metavar="run")
    run = worker_run.add_parser("run", help="take actions from a server and run them")
    add_options(run, _worker_options(environment), environment)
    run.add_argument(
        "--property", action="append", default=[], metavar="NAME=VALUE",
        help="a platform property that this worker offers; may be repeated",
    )  # fmt: skip
    run.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    add_workers(commands, environment)
    add_operations(commands, environment)
    return parser


def _add_insecure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--insecure", action="store_true",
        help="serve other machines without encryption or identities: anyone who reaches the "
        "port can run programs on the workers",
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `distbuild`. Returns the exit code."""
    try:
        parsed = build_parser(os.environ).parse_args(arguments)
        return _run(parsed)
    except DistbuildError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"error: {what}{error.strerror or error}", file=sys.stderr)
    return USAGE_ERROR


def _run(parsed: argparse.Namespace) -> int:
    # child processes are never to use gRPC of ours; without this it warns at each start of one
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # what goes wrong is said by us, once
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if parsed.command == "worker":
        from server.cli.worker import run_worker_command

        return run_worker_command(parsed)
    if parsed.command == "workers":
        from server.cli.workers_command import run_workers_command

        return run_workers_command(parsed)
    if parsed.command == "operations":
        from server.cli.operations_command import run_operations_command

        return run_operations_command(parsed)
    from server.cli.serve import run_server_command

    return run_server_command(parsed)


if __name__ == "__main__":
    sys.exit(main())
