"""What of a program is there when it runs."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAGIC = b"\x7fELF\x02\x01"  # 64 bit, little endian
_STRINGS, _NOBITS = 3, 8
_ALLOC, _EXECUTABLE = 2, 4
_TABLES = (b".eh_frame", b".gcc_except_table", b".rela", b".gnu", b".dyn", b".note", b".hash")


def loaded_parts(program: bytes) -> tuple[bytes, bytes]:
    """A program's machine code and tables, and all else that is loaded with it, constants included.

    Of what is no 64-bit ELF file with section headers everything is the latter.
    """
    code: list[bytes] = []
    data: list[bytes] = []
    sections = list(_sections(program))
    for name, kind, flags, content in sections:
        if flags & _ALLOC and kind != _NOBITS:
            is_code = flags & _EXECUTABLE or name.startswith(_TABLES)
            (code if is_code else data).append(content)
    return (b"\0".join(code), b"\0".join(data)) if sections else (b"", program)


def symbol_names(program: bytes) -> bytes:
    """The names of its functions and the like, as text, as long as it has not been stripped."""
    return b"\0".join(
        content
        for name, kind, _, content in _sections(program)
        if kind == _STRINGS and name == b".strtab"
    )


def _sections(program: bytes) -> Iterator[tuple[bytes, int, int, bytes]]:
    """Name, kind, flags and content of each section; none of what is no such file."""
    if not program.startswith(_MAGIC) or len(program) < 64:
        return
    (table,) = struct.unpack_from("<Q", program, 40)
    size, count, of_names = struct.unpack_from("<HHH", program, 58)
    if of_names >= count or size < 64 or table + size * count > len(program):
        return
    (names,) = struct.unpack_from("<Q", program, table + size * of_names + 24)
    for number in range(count):
        start = table + size * number
        name, kind, flags = struct.unpack_from("<IIQ", program, start)
        offset, length = struct.unpack_from("<QQ", program, start + 24)
        word = program[names + name : program.find(b"\0", names + name)]
        yield word, kind, flags, program[offset : offset + length]
