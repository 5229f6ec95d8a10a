"""`cargo-distbuild-wrapper`: becomes the shim, installing it first where it is missing."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Entry point for RUSTC_WRAPPER and RUSTC_WORKSPACE_WRAPPER set by hand."""
    from wrapper.home import Home

    if len(sys.argv) < 2:
        print("usage: RUSTC_WRAPPER=cargo-distbuild-wrapper cargo build", file=sys.stderr)
        return 2
    try:
        from wrapper.shim.install import ensure_shim

        shim = str(ensure_shim(Home.of(os.environ)))
        os.execv(shim, [shim, *sys.argv[1:]])
    except OSError as error:
        print(f"warning: distbuild: {error}; compiling without it", file=sys.stderr)
        os.execvp(sys.argv[1], sys.argv[1:])
