"""`cargo-distbuild-wrapper` where the shim is yet to be installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from wrapper.home import Home


def become_shim(command: Sequence[str]) -> int:
    """Install the shim and become it; without it, become the rustc that cargo asked for."""
    if not command:
        print("usage: RUSTC_WRAPPER=cargo-distbuild-wrapper cargo build", file=sys.stderr)
        return 2
    from wrapper.shim.install import ensure_launcher, startable_shim, without_it

    try:
        home = Home.of(os.environ)
        shim = str(startable_shim(home))
        ensure_launcher(home)
        os.execv(shim, [shim, *command])
    except OSError as error:
        print(without_it(error, "compiling"), file=sys.stderr)
        os.execvp(command[0], list(command))
