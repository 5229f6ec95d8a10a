"""What the journal of keys is told of one run of a build script."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from remote_apis.digest import Digest
from wrapper.action import BuiltAction
from wrapper.build_scripts.run import Run
from wrapper.keys.journal import Ended, KeyJournal, Subject
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

    def kept(self, action: BuiltAction) -> None:
        """The action that its result is kept under."""
        if self._noted is not None:
            self.journal.amend(*self._noted, action)

    def not_kept(self, reason: str) -> None:
        """It is kept under none."""
        if self._noted is not None:
            self.journal.not_kept(*self._noted, reason)
