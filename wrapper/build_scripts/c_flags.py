"""Have C objects that build scripts compile hold no paths of this checkout.

The flag goes into the variable that only the `cc` crate and its kind read, beside flags of their
own: the plain CFLAGS would take the place of a configure script's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping

from wrapper.roots import RECORDED_CARGO, Roots


def c_flags(roots: Roots, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a run: `CFLAGS_<target>` and `CXXFLAGS_<target>`, what the user set before."""
    target = environment.get("TARGET", "").replace("-", "_")
    recorded = {"target": "/proc/self/cwd/target", "workspace": "/proc/self/cwd"}
    maps = []
    for place in roots.places:
        shown = recorded.get(place.staged)
        if shown is None and place.staged.startswith(("cargo/", "package/")):
            shown = f"{RECORDED_CARGO}/{place.staged.removeprefix('cargo/')}"
        if shown is not None:
            maps.append(f"-ffile-prefix-map={place.real}={shown}")
    flags = " ".join(maps)
    if not target or len(flags.split()) != len(maps):  # a path has a space, and cc splits by it
        return {}
    return {
        f"{name}_{target}": f"{_set_before(name, target, environment)} {flags}".strip()
        for name in ("CFLAGS", "CXXFLAGS")
        if not _has_both(name, target, environment)
    }


def _has_both(name: str, target: str, environment: Mapping[str, str]) -> bool:
    """Whether the user set the variable in both of its forms, of which cc takes one, or the newer
    ones (1.11) both: ours cannot stand for them."""
    forms = {f"{name}_{target}", f"{name}_{environment.get('TARGET', '')}"}
    return len(forms & environment.keys()) > 1


def _set_before(name: str, target: str, environment: Mapping[str, str]) -> str:
    """What cc would have taken: the most special variable, of which ours takes the place."""
    dashed = environment.get("TARGET", "")
    kind = "HOST" if environment.get("HOST") == dashed else "TARGET"
    for variable in (f"{name}_{dashed}", f"{name}_{target}", f"{kind}_{name}", name):
        if variable in environment:
            return environment[variable]
    return ""
