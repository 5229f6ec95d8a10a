"""Which compiler a build that is about to begin will most likely use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

_SECONDS = 20.0


class CompilerQuestion:
    """The one beside the cargo that started us; else `rustc --print sysroot`, where the build was
    started, which goes through rustup's proxy."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Ask, and return at once."""
        self.sysroot = _beside_cargo(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._failed: OSError | None = None
        if self.sysroot is not None:
            return
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
        if self.sysroot is not None:
            return os.path.join(self.sysroot, "bin", "rustc")
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


def _beside_cargo(environment: Mapping[str, str]) -> str | None:
    """The sysroot that cargo is part of, unless another compiler is asked for."""
    if "RUSTC" in environment:
        return None
    sysroot = os.path.dirname(os.path.dirname(environment.get("CARGO", "")))
    is_whole = os.path.isfile(f"{sysroot}/bin/rustc") and os.path.isdir(f"{sysroot}/lib/rustlib")
    return sysroot if is_whole and os.path.isabs(sysroot) else None
