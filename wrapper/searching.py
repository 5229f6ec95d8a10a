"""Search files for texts."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

_SMALL = 1 << 16


def any_contains(paths: Iterable[Path | str], needles: Sequence[bytes]) -> bool:
    """Whether any of the files holds any of the texts. Blocks. Raises OSError."""
    return bool(needles) and any(_contains(path, _any_of(tuple(needles))) for path in paths)


def _contains(path: Path | str, pattern: re.Pattern[bytes]) -> bool:
    with mapped(path) as data:
        return pattern.search(data) is not None


@lru_cache(maxsize=64)
def _any_of(needles: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """One search for all: of paths, which begin with the same byte, four take as long as one
    would by `find`, which looks at each byte by itself in mapped memory."""
    return re.compile(b"|".join(map(re.escape, needles)))


@contextmanager
def mapped(path: Path | str) -> Iterator[bytes | mmap.mmap]:
    """A file's bytes, to be searched. Raises OSError."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size <= _SMALL:
            yield file.read()
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
