"""What an action's platform properties ask of the worker that runs it."""

from __future__ import annotations

from dataclasses import dataclass

from remote_apis.container_image import NO_IMAGE, PROPERTY, ImageReference, parse_image
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_YES = frozenset({"true", "1", "yes"})
_NO = frozenset({"", "false", "0", "no"})
_NETWORK = frozenset({"standard"})
# Tags of bazel's targets arrive as names without a value.
_TAGGED = _YES | {""}
_ON = _YES | {"on", "standard", "external"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformWishes:
    """How an action wants to run; all else in its platform only chose the worker.

    `network`: it would like to reach the network. `as_root`: its user should be number 0.
    """

    image: ImageReference | None = None
    network: bool = False
    as_root: bool = False


def parse_platform(action: re_pb.Action, command: re_pb.Command) -> PlatformWishes:
    """The wishes in Action.platform, or in Command.platform when the action has none.

    Raises InvalidRequest for a value that means nothing, for more than one image, and for
    `dockerPrivileged`.
    """
    platform = action.platform if action.HasField("platform") else command.platform
    values: dict[str, list[str]] = {}
    for each in platform.properties:
        values.setdefault(each.name, []).append(each.value)
    if any(_is_yes("dockerPrivileged", value) for value in values.get("dockerPrivileged", ())):
        raise InvalidRequest(
            "dockerPrivileged is refused: no action gets privileges on a worker; remove the "
            "property (dockerRunAsRoot=true makes it user 0 of its own container)"
        )
    images = {parse_image(value) for value in values.get(PROPERTY, ()) if value not in NO_IMAGE}
    if len(images) > 1:
        named = ", ".join(sorted(repr(image.text) for image in images))
        raise InvalidRequest(f"an action runs in one image, and container-image names {named}")
    return PlatformWishes(
        image=next(iter(images), None),
        network=_wants_network(values),
        as_root=any(_is_yes("dockerRunAsRoot", v) for v in values.get("dockerRunAsRoot", ())),
    )


def _wants_network(values: dict[str, list[str]]) -> bool:
    asked = values.get("dockerNetwork", [])
    for value in asked:
        if value.lower() not in _NETWORK | {"off", ""}:
            raise InvalidRequest(f"dockerNetwork {value[:300]!r} is neither off nor standard")
    return (
        any(value.lower() in _NETWORK for value in asked)
        or any(value.lower() in _TAGGED for value in values.get("requires-network", ()))
        or any(value.lower() in _ON for value in values.get("network", ()))
    )


def _is_yes(name: str, value: str) -> bool:
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise InvalidRequest(f"{name} {value[:300]!r} is neither true nor false")
