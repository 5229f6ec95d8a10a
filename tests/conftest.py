"""What all tests share: a skip that CI could have avoided is a failure there."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

_NOT_INSTALLABLE = "needs BB_"
"""How the reason of a skip starts when the program is in no package registry."""


def pytest_configure() -> None:
    """Tests interrupt programs, which a job in a shell's background would have ignored, and hang up
    on them, which `nohup` would."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Turn avoidable skips into failures where CI is set."""
    outcome = yield
    report = outcome.get_result()
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith(_NOT_INSTALLABLE):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where everything must run: {reason}"
