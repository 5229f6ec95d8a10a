"""What linkers take from the system: libraries that no option names, which a key can have all the
same, and what no key has.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable

from remote_apis import link_set
from wrapper.inputs.inputs import Inputs
from wrapper.inputs.unit_records import Learned
from wrapper.qualifiers import OF_LINK_SET, libraries_told, link_arguments, looked_in_first
from wrapper.recorded import NotKept
from wrapper.result_checks import Unit
from wrapper.sandbox import PATH
from wrapper.system_libraries import library_files

LIBRARY = re.compile(
    r"/(?:usr/)?(?:local/)?lib(?!.*/bfd-plugins/)(?!(?:32|64)?/gcc/[^/]+/[^/]+/lib).*"
    r"/lib(?!bfd-|opcodes-|lto_plugin)([^/]+)(?<!_nonshared)\.(?:so|a)"
)
"""What is linked as `-lNAME`, but for what comes with the C compiler and library. Programs are
loaded with others, whose names have versions."""

_INPUT = re.compile(r"/(?:usr|lib).*\.(?:o|a|x|ld|lds)")
"""Objects, archives and scripts, wherever they are in the system."""


def libraries_taken(noted: Iterable[tuple[str, str]], inputs: Inputs) -> frozenset[str]:
    """The system's libraries that the linker took and was not told of by an option: an attribute
    of a dependency's may have it look for one."""
    found = {
        match.group(1)
        for kind, path in noted
        if kind == "O" and (match := LIBRARY.fullmatch(path)) and os.path.isfile(path)
    }
    told = {*libraries_told(inputs, ()), *inputs.attributed}
    return frozenset(found - told - OF_LINK_SET)


def check_linked(opened: Iterable[str], unit: Unit, inputs: Inputs, learned: Learned) -> None:
    """Raises NotKept for a file of the system's that a linker took and that is neither in the link
    set nor found by the name of a library that the key has. Blocks."""
    taken = [p for p in opened if LIBRARY.fullmatch(p) or _INPUT.fullmatch(p)]
    if not taken or not unit.invocation.links_with_system:
        return
    linker = unit.invocation.codegen("linker") or "cc"
    known = set(link_set.files(shutil.which(linker, path=PATH)))
    first = looked_in_first(unit.environment, inputs)
    told = libraries_told(inputs, link_arguments(unit.invocation, unit.roots))
    for name in {*told, *inputs.attributed, *learned.libraries} - OF_LINK_SET:
        known.update(library_files(name, linker, first))
    for path in taken:
        if os.path.isfile(path) and os.path.realpath(path) not in known:
            raise NotKept(f"the linker reads {path}, which no key names")
