"""What users are told past cargo's record of a unit's messages: each thing once a build."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from wrapper.daemon.protocol import Call

Tell = Callable[[str], None]
_REMEMBERED = 1000


class Warnings:
    """Remembers whom it has told what."""

    def __init__(self) -> None:
        self._told: set[tuple[int, Hashable]] = set()

    def warn(self, call: Call, tell: Tell, line: str, *, about: Hashable = None) -> None:
        """Tell the user of a call, by `tell`, unless its build was told about this."""
        key = (call.parent, about)
        if key in self._told:
            return
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told.add(key)
        tell(f"warning: distbuild: {line}")
