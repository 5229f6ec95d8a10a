"""Compiles the shim and the launcher when the package is installed, where a C compiler is.

Otherwise that happens when `cargo distbuild` is first used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Programs(BuildHookInterface[Any]):
    """Adds wrapper/shim/built to the wheel, which is then for this kind of machine."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is put together, an editable one too."""
        sys.path.insert(0, self.root)
        from wrapper.shim.install import BUILT, build_programs  # noqa: PLC0415

        build_programs(BUILT)
        if any(BUILT.iterdir()):
            build_data["artifacts"].append(f"{BUILT.relative_to(Path(self.root))}/*")
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
