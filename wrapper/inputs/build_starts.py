"""When builds began: what hardly ever changes is looked at once in each, and every so often."""

from __future__ import annotations

import time
from collections import OrderedDict

_BUILDS = 20


class BuildStarts:
    """Whoever changed a file and builds again has it looked at again. One a daemon."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._last = time.monotonic()

    def note(self, build: str) -> None:
        """A call of a build has come."""
        if build not in self._seen:
            self._seen[build] = None
            self._last = time.monotonic()
            if len(self._seen) > _BUILDS:
                self._seen.popitem(last=False)

    def is_recent(self, looked_at: float, seconds: float) -> bool:
        """Whether a look, begun at that time of `time.monotonic`, is so many seconds old at most,
        and no build has begun since."""
        return looked_at >= self._last and time.monotonic() - looked_at < seconds
