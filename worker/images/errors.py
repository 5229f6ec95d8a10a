"""What is wrong with an image."""

from __future__ import annotations

from remote_apis.errors import DistbuildError


class DamagedImage(DistbuildError):
    """An image of this worker is not what it should be: another worker may do better (INTERNAL)."""
