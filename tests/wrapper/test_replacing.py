"""Replacing many texts at once gives what one pattern of all of them would give."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from wrapper.replacing import replace_all
from wrapper.roots import ROOT, Place, Roots

TEXT = st.text(alphabet="ab/ .é\n", max_size=40)
PIECE = st.text(alphabet="ab/", min_size=1, max_size=4)


@given(TEXT, st.dictionaries(PIECE, TEXT, max_size=4))
def test_as_by_a_pattern(text: str, table: dict[str, str]) -> None:
    ordered = sorted(table, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
    wanted = pattern.sub(lambda match: table[match.group()], text)
    assert replace_all(text, table) == wanted
    data = {old.encode(): new.encode() for old, new in table.items()}
    assert replace_all(text.encode(), data) == wanted.encode()


@given(TEXT, st.lists(PIECE, unique=True, max_size=4))
def test_paths_by_themselves(text: str, paths: list[str]) -> None:
    places = tuple(
        Place(real=path, staged=f"p{number}", recorded="")
        for number, path in enumerate(sorted(paths, key=len))
    )
    roots = Roots(places=places, workspace="", package="", out_dir="", target="")
    alternatives = "|".join(re.escape(place.real) for place in reversed(places)) or r"(?!)"
    pattern = re.compile(rf"(?<![\w./~@-])(?:{alternatives})(?![^/:;,\s\"'=])")
    staged = {place.real: f"{ROOT}/{place.staged}" for place in places}
    assert roots.stage_text(text) == pattern.sub(lambda match: staged[match.group()], text)
