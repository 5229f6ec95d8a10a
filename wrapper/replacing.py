"""Replace many texts by others at once, without a pattern to compile for each set of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import AnyStr


def replace_all(
    text: AnyStr,
    table: Mapping[AnyStr, AnyStr],
    fits: Callable[[AnyStr, int, int], bool] | None = None,
) -> AnyStr:
    """Replace in one pass, so that nothing is replaced within a replacement; where several begin at
    one place, the longest.

    `fits` says whether what stands between two indexes of the text is one to be replaced.
    """
    spots = [
        (start, -len(old), old)
        for old in table
        for start in _starts(text, old)
        if fits is None or fits(text, start, start + len(old))
    ]
    if not spots:
        return text
    pieces: list[AnyStr] = []
    end = 0
    for start, _, old in sorted(spots):
        if start >= end:
            pieces += (text[end:start], table[old])
            end = start + len(old)
    pieces.append(text[end:])
    return text[:0].join(pieces)


def _starts(text: AnyStr, old: AnyStr) -> Iterator[int]:
    start = text.find(old)
    while start >= 0:
        yield start
        start = text.find(old, start + 1)
