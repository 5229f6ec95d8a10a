"""Never a wrong artifact: one thing is changed at a time, under warm caches.

By default a random sample; DISTBUILD_MUTATIONS=all applies every mutation, a number that many, and
a pattern those whose names have it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from developers import developer
from rounds import chance as seeded_chance
from running import running_server

from tests.mutations.builders import Distbuild, Fresh, Plain
from tests.mutations.scene import Scene
from tests.mutations.suite import MUTATIONS, Suite

SAMPLE = 12
BYTES_SHARE = 0.25
"""For how much of the sample bytes are compared too, which costs one more build from nothing."""

UNDONE_SHARE = 0.5


@pytest.mark.cargo
@pytest.mark.fault
@pytest.mark.timeout(7200)
def test_no_mutation_makes_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = seeded_chance()
    if chance.random() < 0.5:  # all lies in the users' HOME, as it does for most
        rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
        monkeypatch.setenv("RUSTUP_HOME", rustup)
        monkeypatch.setenv("HOME", str(tmp_path))
    asked = os.environ.get("DISTBUILD_MUTATIONS", str(SAMPLE))
    if asked == "all" or asked.isdigit():
        chosen = chance.sample(MUTATIONS, len(MUTATIONS) if asked == "all" else int(asked))
    else:
        chosen = [mutation for mutation in MUTATIONS if re.search(asked, mutation.name)]
    assert chosen
    homes = tmp_path / "homes"
    with (
        running_server(tmp_path / "server", "--workers", "1") as server,
        developer(homes / "alice", server.url) as alice,
        developer(homes / "bob", server.url) as bob,
    ):
        suite = Suite(
            directory=tmp_path / "scene",
            candidates=[Distbuild({"alice": alice, "bob": bob})],
            plain=Plain(tmp_path / "plain"),
            fresh=Fresh(tmp_path / "fresh"),
            chance=chance,
            bytes_share=1.0 if asked == "all" else BYTES_SHARE,
            undone_share=1.0 if asked == "all" else UNDONE_SHARE,
        )
        found = suite.run(chosen)
    assert not found, "\n".join(str(difference) for difference in found)


def test_names_are_unique_and_there_are_enough() -> None:
    names = Counter(mutation.name for mutation in MUTATIONS)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) >= 60


def test_every_mutation_of_files_changes_files_and_is_put_back(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path)
    before = _tree(scene.root)
    for mutation in MUTATIONS:
        mutation.apply(scene)
        if not (mutation.arguments or mutation.environment or mutation.checkout != "here"):
            assert _tree(scene.root) != before, mutation.name
        scene.revert()
        assert _tree(scene.root) == before, mutation.name


def _tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(root.rglob("*")):
        st = path.lstat()
        content = b"" if path.is_dir() or not path.exists() else path.read_bytes()
        times = 0 if path.is_dir() or path.is_symlink() else st.st_mtime_ns
        found[str(path.relative_to(root))] = (st.st_mode, times, content)
    return found
