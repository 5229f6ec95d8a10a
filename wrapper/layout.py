"""Where cargo puts what it builds, in its two layouts.

Until 1.99 outputs lie together: libraries in `deps`, a build script and what it makes in
`build/PACKAGE-HASH`. From 1.100 on, and before with `-Zbuild-dir-new-layout`, each unit has a
directory `build/PACKAGE/HASH` with its outputs in `out`; that of a script's run has, beside them,
what the script said in `run`.
"""

from __future__ import annotations

import os
import re

_HASH = "[0-9a-f]{16}"
_OF_UNIT = re.compile(rf"(/.+)/([^/]+)/(?:deps|examples|build/[^/]+(?:/{_HASH}/out)?)")
_OF_RUN = re.compile(rf"(/[^/]+(?:/[^/]+)?/build/[^/]+(?:/{_HASH})?)/out(?:/.*)?", re.DOTALL)


def target_of(out_dir: str) -> str | None:
    """The directory with all profiles that an `--out-dir` lies in; None where it is not cargo's."""
    match = _OF_UNIT.fullmatch(out_dir)
    return None if match is None else match[1]


def profile_of(directory: str) -> str:
    """A profile's directory: `/t/debug` of an `--out-dir`, or of a run's own directory."""
    match = _OF_UNIT.fullmatch(f"{directory}/out") or _OF_UNIT.fullmatch(directory)
    return os.path.dirname(directory) if match is None else f"{match[1]}/{match[2]}"


def place_of_run(out_dir: str) -> str:
    """What lies as an `--out-dir` does in the target directory of a build script's OUT_DIR."""
    return out_dir if _is_new(out_dir) else os.path.dirname(out_dir)


def name_of_run(out_dir: str) -> str:
    """`PACKAGE-HASH` for a build script's OUT_DIR."""
    directory = os.path.dirname(out_dir)
    name = os.path.basename(directory)
    return f"{os.path.basename(os.path.dirname(directory))}-{name}" if _is_new(out_dir) else name


def said_by_script(out_dir: str) -> str:
    """The file in which cargo notes what a build script printed, by its OUT_DIR."""
    return os.path.join(os.path.dirname(out_dir), "run/stdout" if _is_new(out_dir) else "output")


def is_of_script(path: str, target: str) -> bool:
    """Whether a path below a target directory is, or lies below, some build script's OUT_DIR."""
    match = _OF_RUN.fullmatch(path.removeprefix(target))
    if match is None:
        return False
    return not _is_new(f"{match[1]}/out") or os.path.isdir(f"{target}{match[1]}/run")


def _is_new(out_dir: str) -> bool:
    return re.fullmatch(_HASH, os.path.basename(os.path.dirname(out_dir))) is not None
