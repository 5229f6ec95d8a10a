"""The line that tells how a build has gone so far, ready for whoever ends it.

`cargo distbuild` starts no Python for it: a rebuild of one small crate would take as long.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from wrapper.home import Home
from wrapper.stats import Totals, build_file, forget_old_builds
from wrapper.wording import totals_line

_BUILDS = 100
_LATER_SECONDS = 2.0
"""Until old builds are forgotten: cargo waits for what is added."""

_LOG = logging.getLogger("distbuild.lines")


class BuildLines:
    """The lines of the latest builds, each in a file beside the build's statistics."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._totals: OrderedDict[str, Totals] = OrderedDict()

    def add(self, build: str, line: Mapping[str, Any]) -> None:
        """Count one more line of a build's statistics. Raises OSError."""
        totals = self._totals.get(build)
        if totals is None:
            totals = self._totals[build] = Totals()
            if len(self._totals) > _BUILDS:
                self._totals.popitem(last=False)
            asyncio.get_running_loop().call_later(_LATER_SECONDS, self._forget_old)
        totals.add(line)
        path = build_file(self._home, build).with_suffix(".line")
        text = f"   Distbuild {totals_line(totals.rounded())}\n".encode()
        # in place: nobody reads it before cargo has ended
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, text)
            os.ftruncate(fd, len(text))
        finally:
            os.close(fd)

    def _forget_old(self) -> None:
        try:
            forget_old_builds(self._home)
        except OSError as error:
            _LOG.warning("old builds are not forgotten: %s", error)
