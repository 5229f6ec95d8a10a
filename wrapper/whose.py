"""For whom a result is right, by the paths that it holds, and the key under which it is kept.

One without paths is for everybody. One that holds paths which all checkouts of a user have, such as
a registry's or what lies below HOME, is for that user; any other for this checkout alone.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from enum import IntEnum
from itertools import islice

from wrapper.action import BuiltAction, of_paths
from wrapper.build_scripts.names import above
from wrapper.hidden_paths import TWO_PIECES
from wrapper.roots import Place, Roots
from wrapper.searching import mapped


class Whose(IntEnum):
    """In the order in which keys are tried."""

    EVERYBODYS = 0
    THE_USERS = 1
    THE_CHECKOUTS = 2

    @property
    def place(self) -> str:
        """A word for it."""
        return ("everybody", "this user", "this checkout")[self]


def keys(shared: BuiltAction, roots: Roots) -> Iterator[BuiltAction]:
    """The keys of the same work for each of them; the first is the shared one itself."""
    yield shared
    everywhere = roots.with_links_followed()
    users = (place for place in everywhere.places if not place.is_of_checkout)
    yield of_paths(shared, replace(everywhere, places=tuple(users)))
    yield of_paths(shared, everywhere)


def key_for(whose: Whose, shared: BuiltAction, roots: Roots) -> BuiltAction:
    """One of them."""
    return next(islice(keys(shared, roots), whose, None))


def real_paths(roots: Roots) -> list[str]:
    """What must not be in a result that everybody gets."""
    places = roots.with_links_followed().places
    return [*(place.real for place in places if place.staged), *_above_checkout(places)]


def paths_of_checkout(roots: Roots) -> list[str]:
    """The same of one that the user's other checkouts get."""
    places = roots.with_links_followed().places
    return [*(place.real for place in places if place.is_of_checkout), *_above_checkout(places)]


def holds_path(data: bytes | mmap.mmap, path: str) -> bool:
    """Whether data holds a path; one like `/root` only where it ends there, being a word too."""
    needle = os.fsencode(path)
    if data.find(needle) < 0:
        return False
    return path.count("/") > 1 or bool(re.search(re.escape(needle) + rb"(?![\w.-])", data))


def file_holds(file: str, paths: Iterable[str]) -> bool:
    """The same of a file and any of some paths. Raises OSError."""
    with mapped(file) as data:
        return any(holds_path(data, path) for path in paths)


def names_checkout(text: str, roots: Roots) -> bool:
    """Whether a path of this checkout stands in a text."""
    return any(place.real in text for place in roots.places if place.is_of_checkout)


def fewest(paths: Iterable[str]) -> list[bytes]:
    """Those of some paths that begin all the others."""
    found: list[str] = []
    for path in sorted(paths):
        if not found or not path.startswith(found[-1]):
            found.append(path)
    return [os.fsencode(path) for path in found]


def fewest_with_pieces(paths: Collection[str]) -> set[bytes]:
    """Those of some paths by whose pieces (`hidden_paths`) all are told. A short one has none where
    it is taken apart in some ways; what it begins has."""
    return {*fewest(paths), *fewest(path for path in paths if len(path) >= TWO_PIECES)}


def _above_checkout(places: Iterable[Place]) -> set[str]:
    """The directories in which the checkout lies, and nothing that the user's checkouts share: who
    goes upwards from its own may find them. Not those right below the root, which are words."""
    here: set[str] = set()
    shared: set[str] = set()
    for place in places:
        (here if place.is_of_checkout else shared).update(above(place.real))
        if not place.is_of_checkout:
            shared.add(place.real)
    return {path for path in here - shared if path.count("/") > 1}
