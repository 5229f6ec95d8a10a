"""What turns out, behind a build's back, about what was compiled or what a build script made."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from remote_apis.digest import Digest
from wrapper.action import BuiltAction
from wrapper.home import Home
from wrapper.keys.journal import KeyJournal, Subject
from wrapper.stats import UnitStat, add_not_kept
from wrapper.wording import not_kept, trouble

_LOG = logging.getLogger("distbuild.keeping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A unit that was compiled here, or a run, as statistics and journal have it already.

    `noted` is the action that it was looked for by. The methods block, and raise nothing.
    """

    home: Home
    journal: KeyJournal
    build: str
    stat: UnitStat
    subject: Subject
    noted: Digest

    def kept(self, action: BuiltAction) -> None:
        """Its result is kept under this action."""
        self.journal.amend(self.subject, self.noted, action)

    def not_kept(self, reason: str) -> None:
        """It is kept under none: whoever asks for a reason is given this one."""
        _LOG.info("%s (%s) is not kept: %s", self.stat.crate, self.stat.kind, reason)
        if reason == self.stat.reason:
            return
        reason = not_kept(self.stat.reason, reason)
        try:
            add_not_kept(self.home, self.build, self.stat, reason)
        except OSError as error:
            _LOG.warning("the statistics cannot be written: %s", trouble(error))
        self.journal.not_kept(self.subject, self.noted, self.build, reason)

    def not_shared(self, error: Exception) -> None:
        """It is kept here, and a server that was to have it does not."""
        _LOG.warning("%s (%s) is not shared: %s", self.stat.crate, self.stat.kind, trouble(error))
