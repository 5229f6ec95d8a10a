"""Paths in what was made that do not stand there as they are.

Optimizing compilers take short texts apart, into the machine code that makes or compares them: then
eight bytes or more of one are together, on x86-64 as they are and in WebAssembly as a number in
LEB128. Bitcode, and instructions whose numbers are shorter, keep no texts in whole bytes at all.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping

from wrapper.roots import Roots
from wrapper.rustc.arguments import Invocation

_PIECE = 8
TWO_PIECES = 3 * _PIECE - 1
"""Bytes of a path that has two pieces wherever it is taken apart."""

_LEAST = 6
"""Bytes of a path that are together where its beginning shares a piece with other text."""

OBJECT = (b"\x7fELF", b"!<arch>\n", b"BC\xc0\xde")
BITCODE = (b".gnu.lto_", b"BC\xc0\xde")
"""What objects hold that were made to be optimized when they are linked, by gcc and by clang."""

_WHOLE_NUMBERS = ("x86_64", "wasm32", "wasm64")
"""Architectures whose instructions hold eight bytes together."""


def pieces_in(
    invocation: Invocation, paths: Iterable[bytes], recorded: Iterable[str] = ()
) -> list[bytes]:
    """The `pieces` by which what rustc makes may tell of each path; none where it leaves texts
    whole."""
    is_wasm = _architecture(invocation).startswith("wasm")
    return pieces(paths, recorded, is_wasm=is_wasm) if is_optimized(invocation) else []


def pieces(
    paths: Iterable[bytes], recorded: Iterable[str] = (), *, is_wasm: bool = False
) -> list[bytes]:
    """What of each path is left where it was taken apart: any of these may tell of one, and may be
    there by chance."""
    found = [piece for _, told in _taken_apart(paths, recorded) for piece in told]
    return found + [_as_number(piece) for piece in found] if is_wasm else found


def pieces_together(
    paths: Iterable[bytes], recorded: Iterable[str] = ()
) -> list[tuple[bytes, ...]]:
    """The first piece that tells of each, with what of the path was before it: both are there, and
    a later one may be in two parts, which overlap."""
    return [(head, told[0]) for head, told in _taken_apart(paths, recorded) if told]


def _taken_apart(
    paths: Iterable[bytes], recorded: Iterable[str]
) -> Iterator[tuple[bytes, tuple[bytes, ...]]]:
    """The beginning of each path, and its first two pieces after that, wherever it was taken apart,
    but for what artifacts hold anyway, by the recorded names of places: `/root/.cargo/registry`
    shares much with its own."""
    known = [name.encode() for name in recorded]

    def tell(found: Iterable[bytes]) -> tuple[bytes, ...]:
        return tuple(piece for piece in found if not any(piece in name for name in known))

    for path in paths:
        for at in range(_PIECE):
            places = range(at, min(at + 2 * _PIECE, len(path) - _PIECE + 1), _PIECE)
            both = tuple(path[place : place + _PIECE] for place in places)
            before = [path[:at]] if both and at >= _LEAST else []
            yield path[:at], tell(both) or tell(before) or both


def _as_number(piece: bytes) -> bytes:
    """How a piece stands in a constant of WebAssembly's whose last bytes it is, but for those of
    the constant's that depend on what is before it."""
    before = _PIECE - len(piece)
    number = int.from_bytes(bytes(before) + piece, "little", signed=True)
    groups: list[int] = []
    while not groups or number not in (0, -1) or (groups[-1] >> 6 & 1) != (number & 1):
        groups.append(number & 0x7F)
        number >>= 7
    whole = bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
    return whole[-(before * 8 // -7) :]


def is_opaque(invocation: Invocation) -> bool:
    """Whether texts may stand in what rustc makes where nobody finds them."""
    keeps_pieces = _architecture(invocation) in _WHOLE_NUMBERS
    return _has_bitcode(invocation) or (is_optimized(invocation) and not keeps_pieces)


def _architecture(invocation: Invocation) -> str:
    """As targets' names begin; empty where the target has a specification of its own."""
    if invocation.target_file is not None:
        return ""
    return (invocation.target or platform.machine()).partition("-")[0]


def is_optimized(invocation: Invocation) -> bool:
    """Whether texts may be taken apart in what rustc makes."""
    if any(name == "-O" for name, _ in invocation.options):
        return True
    return invocation.codegen("opt-level") not in (None, "0")


def _has_bitcode(invocation: Invocation) -> bool:
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
