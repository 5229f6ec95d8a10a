"""Paths in what was made that do not stand there as they are.

Optimizing compilers take short texts apart, into the machine code that makes or compares them: then
eight bytes or more of one are together. Bitcode does not keep texts in whole bytes at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wrapper.roots import Roots
from wrapper.rustc.arguments import Invocation

_PIECE = 8
_FIRST = 16
"""Pieces begin at one of so many bytes of a text, wherever it was taken apart."""

OBJECT = (b"\x7fELF", b"!<arch>\n", b"BC\xc0\xde")
BITCODE = (b".gnu.lto_", b"BC\xc0\xde")
"""What objects hold that were made to be optimized when they are linked, by gcc and by clang."""


def pieces(paths: Iterable[bytes]) -> list[bytes]:
    """What of each path is left where it was taken apart."""
    return [
        path[at : at + _PIECE]
        for path in paths
        for at in range(max(0, min(_FIRST, len(path) - _PIECE + 1)))
    ]


def is_optimized(invocation: Invocation) -> bool:
    """Whether texts may be taken apart in what rustc makes."""
    return invocation.codegen("opt-level") not in (None, "0")


def has_bitcode(invocation: Invocation) -> bool:
    """Whether what rustc makes is, or holds, bitcode."""
    return (
        invocation.codegen("embed-bitcode") not in (None, "no", "n", "off")
        or invocation.codegen("linker-plugin-lto") is not None
        or invocation.codegen("lto") not in (None, "no", "n", "off", "false")
    )


def are_handed(names: Iterable[str], roots: Roots, environment: Mapping[str, str]) -> bool:
    """Whether a variable for which macros ask holds a path of this checkout, whatever they do with
    it."""
    values = (environment.get(name, "") for name in names)
    return any(value and roots.stage_text(value) != value for value in values)
