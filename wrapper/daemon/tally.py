"""How one call went, for the build's statistics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from wrapper.daemon.lines import BuildLines
from wrapper.daemon.protocol import Call
from wrapper.home import Home
from wrapper.meter import Meter, start_meter
from wrapper.stats import HITS, UnitStat, add_execution, add_unit, add_upload


@dataclass(slots=True)
class Tally:
    """Counts from when a call arrives; must be made in the task that answers it."""

    home: Home
    lines: BuildLines
    call: Call
    started: float = field(default_factory=time.monotonic)
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = start_meter(
            lambda: add_execution(self.home, build_of(self.call), self.package)
        )

    @property
    def package(self) -> str:
        """The package's name, or the crate's."""
        environment = self.call.environment
        return environment.get("CARGO_PKG_NAME") or environment["CARGO_CRATE_NAME"]

    def unit(
        self,
        kind: str,
        outcome: str,
        *,
        worker: str | None = None,
        reason: str | None = None,
        made_in: float | None = None,
    ) -> UnitStat:
        """Note how the call ended."""
        seconds = time.monotonic() - self.started
        build = build_of(self.call)
        unit = UnitStat(
            crate=self.package,
            kind=kind,
            outcome=outcome,
            worker=worker,
            reason=reason,
            seconds=seconds,
            started=time.time() - seconds,
            made_in=made_in if outcome in HITS else None,
            downloaded=self.meter.downloaded,
            uploaded=self.meter.uploaded,
            executions=self.meter.executions,
        )
        self.lines.add(build, add_unit(self.home, build, unit))
        self.meter.close(lambda count: add_upload(self.home, build, count))
        return unit


def build_of(call: Call) -> str:
    """The id of the build that a call belongs to: cargo distbuild's own, or cargo's process."""
    explicit = call.environment.get("DISTBUILD_BUILD")
    if explicit and explicit.replace("-", "").isalnum():
        return explicit
    try:
        with open(f"/proc/{call.parent}/stat", "rb") as file:
            started = file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        started = "0"
    return f"cargo-{call.parent}-{started}"
