"""What the journal of keys is told of one run of a build script."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from remote_apis.digest import Digest
from wrapper.action import BuiltAction
from wrapper.build_scripts.run import Run
from wrapper.home import Home
from wrapper.keys.journal import Ended, KeyJournal, Subject
from wrapper.recorded import Recorded
from wrapper.stats import UnitStat


@dataclass(slots=True)
class RunEntry:
    """An entry of the journal; must be made when the launcher calls."""

    journal: KeyJournal
    build: str
    began: float = field(default_factory=time.time)
    _noted: tuple[Subject, Digest] | None = None

    def look_for(self, run: Run, action: BuiltAction) -> None:
        """The action that the run's result is looked for by."""
        subject = Subject.of_run(run.out_dir, run.environment.get("TARGET", ""))
        self._noted = subject, action.digest
        # what is made of the run's output may be noted before this is
        self.journal.note(subject, action, self.began)

    def ended(self, unit: UnitStat) -> None:
        """How it went; nothing is noted of a run that was not looked for."""
        if self._noted is not None:
            self.journal.ended(self._noted[0], Ended.of(unit, unit.crate, self.build))

    def recorded(self, home: Home, unit: UnitStat) -> Recorded:
        """For what turns out later about the result of a run that was looked for."""
        assert self._noted is not None
        subject, noted = self._noted
        return Recorded(
            home=home, journal=self.journal, build=self.build, stat=unit, subject=subject,
            noted=noted,
        )  # fmt: skip
