"""A unit's action under its shared key, which has no path of this checkout's."""

from __future__ import annotations

import os
from dataclasses import replace

from remote_apis import link_set
from remote_apis.digest import Digest
from wrapper.action import BuiltAction, build_action, platform_of
from wrapper.inputs.apart import is_apart
from wrapper.inputs.environment import OF_CLIPPY, environment_of_action, of_target
from wrapper.inputs.inputs import Inputs
from wrapper.inputs.toolchain import machine
from wrapper.inputs.unit_records import Learned
from wrapper.qualifiers import check_linker, qualifiers
from wrapper.result_checks import Unit
from wrapper.rustc.arguments import NotUnderstood
from wrapper.rustc.by_name import BY_NAME, compiler_by_name


def action_of(unit: Unit, inputs: Inputs, learned: Learned) -> BuiltAction:
    """The action of a unit that turned out to read `learned`. Raises NotUnderstood."""
    invocation = unit.invocation
    if inputs.macros.suspect is not None and not inputs.macros.is_seen:
        raise NotUnderstood(f"a macro may read what no key names: {inputs.macros.suspect}")
    if BY_NAME in learned.asked and not compiler_by_name(invocation.driver, unit.environment):
        raise NotUnderstood("a macro runs rustc, and on this user's PATH that is another")
    if learned.libraries:
        inputs = replace(inputs, attributed=inputs.attributed | learned.libraries)
    variables = learned.names | inputs.macros.variables | of_target(invocation)
    if invocation.is_clippy:
        variables |= OF_CLIPPY
    set_digest = None
    if invocation.links_with_system:
        linker = invocation.codegen("linker")
        check_linker(linker, unit.environment, unit.roots.workspace)
        set_digest = link_set.link_set()
    return build_action(
        invocation=invocation,
        roots=unit.roots,
        environment=environment_of_action(unit.environment, variables),
        absent=_absent(unit, inputs, learned),
        inputs=inputs,
        platform=platform_of(invocation, machine(), set_digest),
        qualifiers=qualifiers(invocation, unit.roots, inputs, unit.environment)
        | _ages(inputs, learned)
        | _loaded(inputs),
    )


def _absent(unit: Unit, inputs: Inputs, learned: Learned) -> frozenset[str]:
    """Variables and files for which macros looked, by the names that all have for them, that are
    not there: else the key would be as if nobody had looked. What is in directories above, and
    which directories were listed: one in which nothing else is than what others read by its name
    makes the same input root."""
    found = inputs.files.keys() | inputs.upwards.keys() | inputs.kinds.keys()
    found |= {f"{name}/" for name in inputs.directories}
    invocation, roots = unit.invocation, unit.roots
    beside = (path for path in learned.files if not is_apart(path, invocation, roots))
    files = {roots.staged(path) or path for path in beside} - found
    upwards = {inputs.upwards[name] for name in learned.files if name in inputs.upwards}
    listed = {f"{roots.staged(path) or path}/*" for path in learned.directories}
    return (learned.asked - unit.environment.keys()) | files | upwards | listed


def _loaded(inputs: Inputs) -> dict[str, str]:
    """The compiler's libraries that no input root has: workers have others."""
    names = {os.path.basename(path): digest.hash for path, digest in inputs.loaded.items()}
    return {f"library {name} of the compiler": hash_ for name, hash_ in sorted(names.items())}


def _ages(inputs: Inputs, learned: Learned) -> dict[str, str]:
    """How old the files are at which macros may look, where they ask, as one digest."""
    said = [inputs.ages[name] for name in ("", *sorted(learned.files)) if name in inputs.ages]
    return {"ages": Digest.of("\n".join(said).encode(), inputs.function).hash} if said else {}
