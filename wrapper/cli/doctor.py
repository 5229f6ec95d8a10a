"""`cargo distbuild doctor`: what is missing on this machine or at the server, with its remedy."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from wrapper.checks.finding import Finding, Grade, ok
from wrapper.home import EMBEDDED, Home, RemoteSettings


def doctor(home: Home, arguments: Sequence[str], given: Mapping[str, str]) -> int:
    """Print every finding as it comes; 1 when one is a failure. `given`: as the user's shell."""
    if arguments:
        print("usage: cargo distbuild doctor", file=sys.stderr)
        return 2
    # a server that is not there is told in our words
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return asyncio.run(_report(home, given))


async def _report(home: Home, given: Mapping[str, str]) -> int:
    grades = []
    async for finding in _findings(home, given):
        grades.append(finding.grade)
        print("\n".join(lines(finding)), flush=True)
    failed, warned = grades.count(Grade.FAIL), grades.count(Grade.WARN)
    print(f"\n{failed} failed, {warned} warnings, {grades.count(Grade.OK)} fine")
    return 1 if failed else 0


def lines(finding: Finding) -> list[str]:
    """`ok    linker: …`, and below it the remedy."""
    first = f"{finding.grade:<5} {finding.subject}: {finding.text}"
    return [first, f"      → {finding.remedy}"] if finding.remedy else [first]


async def _findings(home: Home, given: Mapping[str, str]) -> AsyncIterator[Finding]:
    from wrapper.checks import machine, place, settings

    directory = Path.cwd()
    for finding in settings.check_variables(given):
        yield finding
    yield machine.check_cargo(given)
    yield machine.check_toolchain(given)
    yield place.check_home(home)
    yield place.check_room(home)
    yield machine.check_shim(home)
    yield machine.check_build_scripts(home)
    yield place.check_daemon(home)
    yield machine.check_linker(given)
    yield machine.check_sandbox(home)
    yield place.check_sockets(home, os.environ)
    for finding in settings.check_wrappers(directory, given):
        yield finding
    yield settings.check_incremental(directory, given)
    async for finding in _server(home):
        yield finding


async def _server(home: Home) -> AsyncIterator[Finding]:
    from wrapper.checks import place
    from wrapper.checks.server import check_server

    remote = RemoteSettings.of(os.environ)
    address = place.server_address(home, os.environ)
    if remote.url is None:
        yield ok("server", "none is configured: results are shared on this machine alone")
    elif address is None:
        yield ok("server", f"the {EMBEDDED} one does not run; the next build starts it")
    else:
        async for finding in check_server(address, remote.instance):
            yield finding
