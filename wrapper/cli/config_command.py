"""`cargo distbuild config`: every setting, what holds for it, and where that is said."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wrapper.config import SETTINGS, Value, effective, wrong_variables
from wrapper.home import Home
from wrapper.wording import columns


def show_config(home: Home, arguments: Sequence[str], given: dict[str, str]) -> int:
    """Print the settings as a table or as JSON; `given` is the environment of the user's shell.

    Raises ConfigError.
    """
    if list(arguments) not in ([], ["--json"]):
        print("usage: cargo distbuild config [--json]", file=sys.stderr)
        return 2
    values = effective(Path.cwd(), given)
    if not values["home"].text:
        values["home"] = Value(str(home.path), values["home"].origin)
    if not values["jobs"].text:
        values["jobs"] = Value(str(len(os.sched_getaffinity(0))), "cargo's own default")
    if arguments:
        found = {key: {"value": v.text, "origin": v.origin} for key, v in values.items()}
        print(json.dumps(found, indent=2))
    else:
        rows = [("setting", "value", "from", "meaning")]
        rows += [
            (s.key, values[s.key].text or '""', values[s.key].origin, s.meaning) for s in SETTINGS
        ]
        print(columns(rows))
    wrong = wrong_variables(given)
    for sentence in wrong:
        print(f"error: distbuild: {sentence}", file=sys.stderr)
    return 2 if wrong else 0
