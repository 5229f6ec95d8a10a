"""become.c as a program. Imports nothing that a package being installed has not got."""

from __future__ import annotations

from pathlib import Path

from remote_apis.c_programs import CProgram

_HERE = Path(__file__).parent
BUILT = _HERE / "built"
BECOME = CProgram(name="become", directory=_HERE, sources=("become.c",), is_static=True)
