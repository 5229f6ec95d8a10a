"""Ways to files that go down and up again, as `tests/../docs/x`: where a directory on one is a
link, or is not there, it leads elsewhere, or nowhere.
"""

from __future__ import annotations

import os

from wrapper.build_scripts.names import is_below
from wrapper.inputs.inputs import Inputs
from wrapper.roots import Roots


def leads_elsewhere(path: str, roots: Roots, inputs: Inputs) -> bool:
    """Whether a file's way may be another for somebody who has the same key: up from what the key
    does not have as a directory, out of a place, whose name is the user's, or out of or into the
    target directory, which may lie anywhere."""
    ways = list(roots.left_upwards(path))
    if ways and is_below(os.path.normpath(path), roots.targets):
        return not is_below(ways[0], roots.targets)
    return not all(_is_known(each, roots, inputs) for each in ways)


def _is_known(directory: str, roots: Roots, inputs: Inputs) -> bool:
    staged, parent = roots.staged(directory), roots.staged(os.path.dirname(directory))
    if parent is None:
        return False
    if is_below(parent, inputs.directories):
        return not inputs.is_left_out(directory)
    if is_below(directory, roots.targets):
        return False
    is_above = is_below(roots.package, (directory,))
    return is_above or any(each.startswith(f"{staged}/") for each in inputs.files)
