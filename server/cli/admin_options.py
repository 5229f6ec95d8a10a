"""The command lines of the commands that talk to a running server."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, TypeAlias

from server.config.options import Option, add_options, count

DEFAULT_SERVER = "grpc://127.0.0.1:8980"
_Commands: TypeAlias = "argparse._SubParsersAction[Any]"  # generic in the stubs alone


def add_workers(commands: _Commands, environment: Mapping[str, str]) -> None:
    """`workers list|drain|resume`."""
    workers = commands.add_parser("workers", help="show, drain and resume a server's workers")
    actions = workers.add_subparsers(dest="action", required=True, metavar="list|drain|resume")
    _add(actions, environment, "list", "what workers there are, and what they run")
    drain = _add(
        actions, environment, "drain", "have workers finish what they run and get nothing more"
    )
    drain.add_argument("--wait", action="store_true", help="return when they run nothing")
    resume = _add(actions, environment, "resume", "have drained workers get actions again")
    for parser in (drain, resume):
        parser.add_argument(
            "names", nargs="*", metavar="NAME",
            help="a worker, or a machine: all its slots",
        )  # fmt: skip
        parser.add_argument("--all", action="store_true", help="all workers that are there")


def add_operations(commands: _Commands, environment: Mapping[str, str]) -> None:
    """`operations list|show|cancel`."""
    operations = commands.add_parser("operations", help="show and cancel a server's operations")
    actions = operations.add_subparsers(dest="action", required=True, metavar="list|show|cancel")
    listing = _add(actions, environment, "list", "what runs, waits, and is lately done")
    limits = [
        Option(name="instance", parse=str, default="", metavar="NAME",
               help="only those of this instance"),
        Option(name="limit", parse=count, default="100", metavar="N",
               help="the newest N of them, 0 for all"),
    ]  # fmt: skip
    add_options(listing, limits, environment)
    states = listing.add_mutually_exclusive_group()
    states.add_argument("--done", action="store_true", help="only those that are done")
    states.add_argument("--running", action="store_true", help="only those that are not")
    show = _add(actions, environment, "show", "all about one operation")
    show.add_argument("name", metavar="NAME", help="as `operations list` shows it")
    cancel = _add(actions, environment, "cancel", "end operations")
    cancel.add_argument("names", nargs="+", metavar="NAME", help="as `operations list` shows it")


def _add(
    actions: _Commands, environment: Mapping[str, str], name: str, help_: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=help_, description=help_)
    server = Option(
        name="server", parse=str, default=DEFAULT_SERVER, metavar="URL", help="the server to ask"
    )
    add_options(parser, [server], environment)
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser
