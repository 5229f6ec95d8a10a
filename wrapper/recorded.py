"""What turns out, behind a build's back, about what was compiled or what a build script made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from wrapper.action import BuiltAction
from wrapper.home import Home
from wrapper.keys.journal import KeyJournal, Subject
from wrapper.remote import Remote
from wrapper.stats import UnitStat, add_not_kept
from wrapper.whose import Whose
from wrapper.wording import not_kept, trouble

_LOG = logging.getLogger("distbuild.keeping")


class NotKept(Exception):
    """The result of a unit, or of a run, must not be kept; the message says why."""


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

    def kept(self, action: BuiltAction, whose: Whose) -> None:
        """Its result is kept under this action, for them."""
        if whose is not Whose.EVERYBODYS and (self.stat.reason or "").startswith("new: no "):
            why = f"new: it holds a path of {whose.place}, for which alone it is kept"
            self._explain(why)
        # what explains looks for the one before
        self.journal.amend(self.subject, self.noted, action)

    def not_kept(self, reason: str) -> None:
        """It is kept under none: whoever asks for a reason is given this one."""
        _LOG.info("%s (%s) is not kept: %s", self.stat.crate, self.stat.kind, reason)
        if reason != self.stat.reason:
            self._explain(not_kept(self.stat.reason, reason))

    def _explain(self, reason: str) -> None:
        try:
            add_not_kept(self.home, self.build, self.stat, reason)
        except OSError as error:
            _LOG.warning("the statistics cannot be written: %s", trouble(error))
        self.journal.explain(self.subject, self.noted, self.build, reason)

    def not_shared(self, error: Exception) -> None:
        """It is kept here, and a server that was to have it does not."""
        _LOG.warning("%s (%s) is not shared: %s", self.stat.crate, self.stat.kind, trouble(error))


class Kept(Protocol):
    """What is on this machine now: under which key, for whom, and whether servers may have it."""

    @property
    def action(self) -> BuiltAction: ...

    @property
    def whose(self) -> Whose: ...

    @property
    def is_shared(self) -> bool: ...


_K = TypeVar("_K", bound=Kept)


async def keep_and_share(
    recorded: Recorded,
    remote: Remote | None,
    *,
    keep: Callable[[], Awaitable[_K]],
    refusals: tuple[type[Exception], ...],
    share: Callable[[_K, Remote], Awaitable[None]],
) -> None:
    """Have a result kept here, then by a server, and tell how that went. Raises nothing.

    `keep` raises one of `refusals` with the reason why it must not be, and like `share`
    DistbuildError and OSError when it cannot be.
    """
    try:
        kept = await keep()
    except refusals as error:
        why = str(error)
    except (DistbuildError, OSError) as error:
        why = f"it could not be kept: {trouble(error)}"
    else:
        await asyncio.to_thread(recorded.kept, kept.action, kept.whose)
        if remote is not None and not remote.is_down and kept.is_shared:
            try:
                await share(kept, remote)
            except (DistbuildError, OSError) as error:
                recorded.not_shared(error)
                if isinstance(error, DistbuildError):
                    remote.note(error)
        return
    await asyncio.to_thread(recorded.not_kept, why)
