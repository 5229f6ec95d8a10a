"""Compiles the small programs in C when the package is installed, where a C compiler is.

Otherwise that happens when `cargo distbuild` is first used, or a worker starts. What is installed
in place is compiled for Python too, as pip does only for what it copies: a daemon may be started by
somebody who has no bytecode written.
"""

from __future__ import annotations

import compileall
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Programs(BuildHookInterface[Any]):
    """Adds what was compiled to the wheel, which is then for this kind of machine."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is put together, an editable one too."""
        sys.path.insert(0, self.root)
        from worker.sandbox import become  # noqa: PLC0415
        from wrapper.shim import install  # noqa: PLC0415

        if version == "editable":
            for package in ("remote_apis", "server", "worker", "wrapper"):
                compileall.compile_dir(Path(self.root) / package, quiet=2)
        install.build_programs(install.BUILT)
        become.BECOME.build(become.BUILT)
        for built in (install.BUILT, become.BUILT):
            if any(built.iterdir()):
                build_data["artifacts"].append(f"{built.relative_to(Path(self.root))}/*")
                build_data["pure_python"] = False
                build_data["infer_tag"] = True
