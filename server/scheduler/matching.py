"""Policy: which worker may run which action.

A worker serves the instance names that start with its prefix, segment by segment. Of the action's
platform properties each must be offered by the worker; a worker that offers several values under
one name takes any of them, and one that offers `*` takes every value of that name. What a worker
offers beyond that does not matter. Values are compared as strings, but for those that clients spell
in different ways (`canonical`): `OSFamily`, `Arch`, `ISA` and `container-image`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable

from remote_apis.container_image import NO_IMAGE, canonical_image
from remote_apis.container_image import PROPERTY as CONTAINER_IMAGE
from server.scheduler.values import Offer, Platform, Requirement

ANY_VALUE = "*"

STANDARD_NAMES = frozenset(
    {
        "Arch",
        "ISA",
        "OSFamily",
        "Pool",
        "cache-silo-key",
        "container-image",
        "dockerNetwork",
        "dockerPrivileged",
        "dockerRunAsRoot",
        "network",
        "requires-network",
    }
)
"""Names that are known to the server even when no connected worker offers them."""

INSTRUCTIONS = frozenset(
    {
        "cache-silo-key",
        "dockerNetwork",
        "dockerPrivileged",
        "dockerRunAsRoot",
        "network",
        "requires-network",
    }
)
"""Names that tell a worker how to run the action, and do not choose the worker."""

_DEFAULT_POOL = ("Pool", "default")
_ARCHITECTURES = {
    "amd64": "x86-64",
    "x86_64": "x86-64",
    "arm64": "arm-v8-a",
    "aarch64": "arm-v8-a",
    "arm-a64": "arm-v8-a",
}


def serves(prefix: str, instance: str) -> bool:
    """Whether instance names under `prefix` include `instance`; the empty prefix has all."""
    return not prefix or instance == prefix or instance.startswith(prefix + "/")


def suffix(prefix: str, instance: str) -> str:
    """What has to be joined to `prefix` to get `instance`."""
    return instance[len(prefix) :].removeprefix("/") if prefix else instance


def selecting(platform: Platform) -> Platform:
    """The properties that choose the worker."""
    return tuple(
        (name, value)
        for name, value in platform
        if name not in INSTRUCTIONS and not (name == CONTAINER_IMAGE and value in NO_IMAGE)
    )


@functools.lru_cache(maxsize=4096)
def canonical(name: str, value: str) -> str:
    """One spelling for all values of a property that mean the same.

    bazel's users write `Linux`, REAPI 2.12 and Buildbarn's `linux`; for images see
    `remote_apis.container_image`.
    """
    if name == CONTAINER_IMAGE:
        return canonical_image(value)
    if name == "OSFamily":
        return value.lower()
    if name in ("Arch", "ISA"):
        return _ARCHITECTURES.get(value.lower(), value.lower())
    return value


def matches(requirement: Requirement, offer: Offer) -> bool:
    """Whether a worker with this offer may run an action with this requirement."""
    return serves(offer.prefix, requirement.instance) and all(
        _offers(offer, name, value) for name, value in requirement.platform
    )


def unknown_names(platform: Platform, offers: Iterable[Offer], known: Collection[str]) -> list[str]:
    """The property names that are neither known nor offered by anyone, sorted."""
    offered = {name for offer in offers for name, _ in offer.platform}
    return sorted({name for name, _ in platform} - offered - set(known))


def explain(requirement: Requirement, offers: Collection[Offer]) -> str:
    """Why no worker matches, for the user: the property at fault, and what there is instead."""
    if not offers:
        return "no worker is connected"
    serving = [offer for offer in offers if serves(offer.prefix, requirement.instance)]
    if not serving:
        return f"no worker serves the instance name {requirement.instance!r}"
    for name, value in requirement.platform:
        if any(_offers(offer, name, value) for offer in serving):
            continue
        others = sorted({v for offer in serving for n, v in offer.platform if n == name})
        if not others:
            return f"no worker offers the platform property {name!r} (asked for: {value!r})"
        listed = ", ".join(repr(other) for other in others[:10])
        return f"no worker offers the platform property {name!r}={value!r} (offered: {listed})"
    wanted = ", ".join(f"{name}={value}" for name, value in requirement.platform)
    return f"no worker offers all of the platform properties {wanted} together"


def _offers(offer: Offer, name: str, value: str) -> bool:
    wanted = canonical(name, value)
    values = [v for n, v in offer.platform if n == name]
    if not values:
        # What no worker has to say of itself.
        return (name, value) == _DEFAULT_POOL
    return any(v in (ANY_VALUE, value) or canonical(name, v) == wanted for v in values)
