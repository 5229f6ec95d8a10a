"""Apply mutations one after the other; after each, every builder must agree with plain cargo."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.mutations.builders import Builder, Order
from tests.mutations.catalogue_made import MADE
from tests.mutations.catalogue_settings import SETTINGS
from tests.mutations.catalogue_sources import SOURCES
from tests.mutations.mutation import Mutation
from tests.mutations.observe import Observation, differences
from tests.mutations.scene import Scene

MUTATIONS = SOURCES + MADE + SETTINGS
_AGAIN_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where a builder did not make what plain cargo made, or other bytes than without caches."""

    builder: str
    mutation: str
    step: str
    what: tuple[str, ...]

    def __str__(self) -> str:
        lines = "\n    ".join(self.what)
        return f"{self.builder}, {self.mutation}, {self.step}:\n    {lines}"


@dataclass
class Suite:
    """`candidates` are compared with `plain` in behaviour, and with `fresh`, if given, in bytes;
    `fresh` itself is compared with `plain`.

    Bytes are compared after the share `bytes_share` of the mutations, and the share `undone_share`
    is looked at once more when it is undone. `note` is told of every step.
    """

    directory: Path
    candidates: Sequence[Builder]
    plain: Builder
    fresh: Builder | None
    chance: random.Random
    bytes_share: float = 1.0
    undone_share: float = 1.0
    note: Callable[[str], object] = print
    found: list[Difference] = field(default_factory=list)

    def run(self, mutations: Sequence[Mutation]) -> list[Difference]:
        """All differences, in order."""
        scene = Scene.make(self.directory)
        start = Order(workspace=scene.workspace)
        baseline = self._compare("nothing", "at first", start, None)
        for number, mutation in enumerate(mutations, 1):
            self.note(f"{number}/{len(mutations)} {mutation.name}")
            expected = self._mutated(scene, mutation, "changed", None)
            if self.chance.random() >= self.undone_share:
                continue
            self._compare(mutation.name, "changed back", start, baseline)
            if self.chance.random() < _AGAIN_SHARE:
                self._mutated(scene, mutation, "changed again", expected)
                self._compare(mutation.name, "changed back again", start, baseline)
        return self.found

    def _mutated(
        self, scene: Scene, mutation: Mutation, step: str, expected: Observation | None
    ) -> Observation:
        mutation.apply(scene)
        here = scene
        if mutation.checkout != "here":
            place = self.directory / mutation.checkout
            shutil.rmtree(place, ignore_errors=True)
            here = scene.copy_to(place)
        order = Order(
            workspace=here.workspace, who=mutation.who, arguments=mutation.arguments,
            environment=mutation.environment,
        )  # fmt: skip
        try:
            return self._compare(mutation.name, step, order, expected)
        finally:
            scene.revert()

    def _compare(
        self, name: str, step: str, order: Order, expected: Observation | None
    ) -> Observation:
        """What was expected; where that is not known yet, the references build it afterwards."""
        seen = [candidate.build(order) for candidate in self.candidates]
        if expected is None:
            expected = self._reference(name, step, order)
        for candidate, made in zip(self.candidates, seen, strict=True):
            what = differences(_comparable(expected.facts, order), _comparable(made.facts, order))
            if expected.artifacts:
                what += differences(expected.artifacts, made.artifacts)
            self._note(candidate, name, step, what)
        return expected

    def _note(self, builder: Builder, name: str, step: str, what: Sequence[str]) -> None:
        if what:
            difference = Difference(
                builder=builder.name, mutation=name, step=step, what=tuple(what)
            )
            self.note(str(difference))
            self.found.append(difference)

    def _reference(self, name: str, step: str, order: Order) -> Observation:
        expected = Observation(facts=self.plain.build(order).facts, artifacts={})
        # what rustc makes incrementally differs from run to run: behaviour has to do
        if self.fresh is None or _is_incremental(order) or self.chance.random() >= self.bytes_share:
            return expected
        made = self.fresh.build(order)
        self._note(self.fresh, name, step, differences(expected.facts, made.facts))
        return replace(expected, artifacts=made.artifacts)


def _is_incremental(order: Order) -> bool:
    return "CARGO_INCREMENTAL" in order.environment


def _comparable(facts: Mapping[str, str], order: Order) -> dict[str, str]:
    """What is the same whoever builds: the order of a program's sections is that of the objects
    linked, which incremental compiles have others of than a worker, who begins from nothing."""
    if not _is_incremental(order):
        return dict(facts)
    return {
        key: " ".join(sorted(value.split())) if key.startswith("sections of ") else value
        for key, value in facts.items()
    }
