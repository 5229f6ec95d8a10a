"""What of a program is there when it runs."""

from __future__ import annotations

import struct

_MAGIC = b"\x7fELF\x02\x01"  # 64 bit, little endian
_NOBITS = 8
_ALLOC, _EXECUTABLE = 2, 4
_TABLES = (b".eh_frame", b".gcc_except_table", b".rela", b".gnu", b".dyn", b".note", b".hash")


def loaded_parts(program: bytes) -> tuple[bytes, bytes]:
    """A program's machine code and tables, and all else that is loaded with it, constants included.

    Of what is no 64-bit ELF file with section headers everything is the latter.
    """
    if not program.startswith(_MAGIC) or len(program) < 64:
        return b"", program
    (table,) = struct.unpack_from("<Q", program, 40)
    size, count, of_names = struct.unpack_from("<HHH", program, 58)
    if of_names >= count or size < 64 or table + size * count > len(program):
        return b"", program
    (names,) = struct.unpack_from("<Q", program, table + size * of_names + 24)
    code: list[bytes] = []
    data: list[bytes] = []
    for number in range(count):
        start = table + size * number
        name, kind, flags = struct.unpack_from("<IIQ", program, start)
        offset, length = struct.unpack_from("<QQ", program, start + 24)
        if flags & _ALLOC and kind != _NOBITS:
            is_code = flags & _EXECUTABLE or program.startswith(_TABLES, names + name)
            (code if is_code else data).append(program[offset : offset + length])
    return b"\0".join(code), b"\0".join(data)
