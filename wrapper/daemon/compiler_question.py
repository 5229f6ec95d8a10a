"""Ask which compiler a build that is about to begin will use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

_SECONDS = 20.0


class CompilerQuestion:
    """`rustc --print sysroot` where the build was started, which goes through rustup's proxy."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Ask, and return at once."""
        self._process: subprocess.Popen[bytes] | None = None
        self._failed: OSError | None = None
        try:
            self._process = subprocess.Popen(
                [environment.get("RUSTC", "rustc"), "--print", "sysroot"],
                cwd=environment.get("DISTBUILD_STARTED_IN"), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            self._failed = error

    def answer(self) -> str:
        """The path of the compiler's driver. Blocks. Raises OSError and SubprocessError."""
        if self._process is None:
            assert self._failed is not None
            raise self._failed
        try:
            said, _ = self._process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        if self._process.returncode != 0:
            raise subprocess.CalledProcessError(self._process.returncode, self._process.args)
        return os.path.join(os.fsdecode(said.strip()), "bin", "rustc")
