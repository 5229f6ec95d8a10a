"""What root may not do either, for tests that run as root."""

from __future__ import annotations

import os

WITHOUT_ALL_RIGHTS = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
"""Begins a command for which the modes of files count."""
