"""What the commands share that talk to a running server."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable

import grpc
import grpc.aio

from remote_apis.client.channel import open_channel
from remote_apis.client.settings import ClientLimits, RetryPolicy
from remote_apis.errors import DistbuildError, InvalidRequest, Unavailable

FAILED = 1
_INTERRUPTED = 130

PROMPT = ClientLimits(call_timeout=15.0)
"""For commands that somebody waits for."""

PATIENT = ClientLimits(call_timeout=15.0, retry=RetryPolicy(attempts=60, max_delay=1.0))
"""For those that have begun to wait and can well wait for a server to start again."""


def run_client(
    parsed: argparse.Namespace, command: Callable[[grpc.aio.Channel], Awaitable[int]]
) -> int:
    """Run a command with a channel to `--server`; returns its exit code.

    What goes wrong there is one line and exit code 1. Raises InvalidRequest for wrong usage.
    """
    try:
        return asyncio.run(_with_channel(parsed.server, command))
    except InvalidRequest:
        raise
    except DistbuildError as error:
        complain(error)
        return FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # whoever read the output has seen enough; the interpreter flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def say(lines: Iterable[str]) -> None:
    """Print lines at once."""
    for line in lines:
        print(line)
    sys.stdout.flush()


def say_json(value: object) -> None:
    """Print a value as JSON."""
    say([json.dumps(value, indent=2)])


def complain(error: DistbuildError) -> None:
    """One line on stderr."""
    print(f"error: {error}", file=sys.stderr)


async def _with_channel(url: str, command: Callable[[grpc.aio.Channel], Awaitable[int]]) -> int:
    async with open_channel(url) as channel:
        try:
            return await command(channel)
        except Unavailable as error:
            if channel.get_state() is grpc.ChannelConnectivity.READY:
                raise
            raise Unavailable(f"no server answers at {url}") from error
