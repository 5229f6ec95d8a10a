"""What a mutation is: one small change, and how to build with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.mutations.scene import Scene


def nothing(scene: Scene) -> None:
    """The workspace as it is: the change is in the command, the environment or the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A change of the pristine workspace, and the build that shows it.

    `arguments` go to `cargo build`, beside `--workspace` and the kinds of targets; `environment` is
    added (a `{ws}` in a value is the workspace). `checkout` names another place, into which the
    changed workspace is copied first, and `who` the developer who builds: alice, or bob with a
    CARGO_HOME and caches of his own.
    """

    name: str
    apply: Callable[[Scene], None] = nothing
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    checkout: str = "here"
    who: str = "alice"


def edit(name: str, path: str, old: str, new: str) -> Mutation:
    """A text replaced in a file."""
    return Mutation(name=name, apply=lambda scene: scene.replace(path, old, new))


def quiet_edit(name: str, path: str, old: str, new: str, mtime: int | None = None) -> Mutation:
    """A text replaced by one of the same size; the file keeps its mtime or gets the given one."""
    return Mutation(
        name=name, apply=lambda scene: scene.replace_quietly(path, old, new, mtime=mtime)
    )


def steps(name: str, *changes: Callable[[Scene], object], **environment: str) -> Mutation:
    """Several changes at once, perhaps with an environment."""

    def apply(scene: Scene) -> None:
        for change in changes:
            change(scene)

    return Mutation(name=name, apply=apply, environment=environment)


def variables(name: str, **environment: str) -> Mutation:
    """An environment for the build."""
    return Mutation(name=name, environment=environment)


def command(name: str, *arguments: str) -> Mutation:
    """Arguments for the build."""
    return Mutation(name=name, arguments=arguments)
