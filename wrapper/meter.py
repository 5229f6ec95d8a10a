"""What one rustc call has moved through a server so far."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Meter:
    """Bytes of blobs, before compression. `on_execute` is called when a worker is asked."""

    downloaded: int = 0
    uploaded: int = 0
    executions: int = 0
    on_execute: Callable[[], None] | None = None
    on_late_upload: Callable[[int], None] | None = None

    def executing(self) -> None:
        """A worker is asked."""
        self.executions += 1
        if self.on_execute is not None:
            self.on_execute()

    def received(self, count: int) -> None:
        """Bytes came from the server."""
        self.downloaded += count

    def sent(self, count: int) -> None:
        """Bytes went to the server."""
        if self.on_late_upload is not None and count:
            self.on_late_upload(count)
        self.uploaded += count

    def close(self, on_late_upload: Callable[[int], None]) -> None:
        """The call is over and its bytes are counted; what is published of it comes later."""
        self.on_late_upload = on_late_upload


# A connection serves many calls at once, and the way from a call to it is long: the call's task
# carries its meter, and so do the tasks and threads that it starts.
_current: ContextVar[Meter | None] = ContextVar("meter", default=None)


def start_meter(on_execute: Callable[[], None]) -> Meter:
    """A new meter for this task."""
    meter = Meter(on_execute=on_execute)
    _current.set(meter)
    return meter


def meter() -> Meter:
    """This task's meter; one that nobody reads where none was started."""
    return _current.get() or Meter()
