"""What a run that was watched depended on, by what was noted of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from wrapper.build_scripts.accesses import Seen, Surroundings, left_behind, sort_out
from wrapper.build_scripts.links import links_beside, links_out
from wrapper.build_scripts.names import is_below
from wrapper.build_scripts.run import Run
from wrapper.layout import is_of_script
from wrapper.roots import Roots, cargo_home
from wrapper.sandbox import jobserver_fifo

_JOURNAL = ".global-cache-journal"
_OF_CARGO = (".package-cache", ".package-cache-mutate", ".global-cache", _JOURNAL)


def what_was_seen(run: Run, accesses: Collection[tuple[str, str]], home: str) -> Seen:
    """What of the accesses of a run, which has ended, its result depends on; `home` is
    DISTBUILD_HOME. Blocks."""
    seen = sort_out(accesses, _around(run, home, links_beside(accesses, run.roots)))
    of_cargo = cargo_home(run.environment)
    if of_cargo in seen.reads and any(path == f"{of_cargo}/{_JOURNAL}" for _, path in accesses):
        seen.reads[of_cargo] = "s"  # opened to have what is in it last, and not to list that
    listed = {p for p, kind in seen.reads.items() if kind == "o" and _is_cargos(p, run.roots)}
    seen.reads = {
        path: kind
        for path, kind in seen.reads.items()
        if path not in listed and (kind == "o" or os.path.dirname(path) not in listed)
    }
    first = [each for each in run.looked_in_first if each]
    for path in [path for path in seen.reads if is_below(path, first)]:
        if os.path.isdir(path) or not os.path.lexists(path):
            del seen.reads[path]
    seen.there.update(path for path in seen.reads if os.path.lexists(path))
    left = left_behind(seen)
    if left is not None:
        seen.trouble = seen.trouble or f"it leaves {left} behind"
    return seen


def _around(run: Run, home: str, left: Mapping[str, str]) -> Surroundings:
    environment = run.environment
    unseen = [home, os.path.dirname(run.program)]
    unseen.append(os.path.realpath(run.out_dir))
    # cargo's locks, and its notes of what it last used
    unseen += [f"{cargo_home(environment)}/{name}" for name in _OF_CARGO]
    unseen += [f"{target}/.rustc_info.json" for target in run.roots.targets]
    fifo = jobserver_fifo(environment)
    if fifo is not None:
        unseen.append(fifo)
    temporary = environment.get("TMPDIR", "/tmp").rstrip("/") or "/tmp"
    return Surroundings(
        own=run.out_dir,
        unseen=tuple(unseen),
        temporary=temporary,
        links=links_out(run.out_dir),
        left=left,
    )


def _is_cargos(path: str, roots: Roots) -> bool:
    """Whether it is a directory in which cargo has others' outputs come and go, and which is listed
    by who walks through the package or looks for libraries: what is opened there counts. A
    package's OUT_DIR is none of them."""
    target = next((each for each in roots.targets if is_below(path, (each,))), None)
    return target is not None and not is_of_script(path, target) and os.path.isdir(path)
