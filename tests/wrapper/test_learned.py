"""What compiles turned out to read is known to all who do the same work."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer, developer
from running import running_server

from tests.wrapper.test_e2e_local import built, package, workspace
from tests.wrapper.test_reasons import Rung, rung
from wrapper.inputs.unit_records import NOTHING, Learned
from wrapper.ladder import Ask, Miss
from wrapper.learned import find_learned, note_name
from wrapper.notes import Notes

TEXT = """
pub const TEXT: &str = include_str!("../../README.md");
pub const NAME: Option<&str> = option_env!("MY_OWN_NAME");
"""
MAIN = 'fn main() { println!("{} {:?}", library::TEXT, library::NAME); }'


def with_library(directory: Path, text: str) -> Path:
    """A program, and a library that reads beside its own directory, and a variable."""
    checkout = workspace(directory, MAIN)
    package(checkout / "library", "library", TEXT)
    (checkout / "README.md").write_text(text)
    manifest = checkout / "app" / "Cargo.toml"
    manifest.write_text(manifest.read_text() + 'library = { path = "../library" }\n')
    (checkout / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["app", "macros", "library"]\nresolver = "2"\n'
    )
    return checkout


def outcome(dev: Developer, checkout: Path) -> tuple[str, str]:
    """Where the library came from, and what the program says."""
    _, said = built(dev, checkout)
    return {unit["crate"]: unit["outcome"] for unit in dev.units(checkout)}["library"], said


@pytest.mark.cargo
@pytest.mark.timeout(600)
def test_another_checkout(tmp_path: Path) -> None:
    """A hit at once where file and variable are the same, and in no other place."""
    with developer(tmp_path / "dev", None) as dev:
        dev.extra["MY_OWN_NAME"] = "me"
        seen = []
        for number, text in enumerate(("one", "one", "two", "two", "one")):
            checkout = with_library(tmp_path / f"{number}", text)
            seen.append(outcome(dev, checkout))
            assert seen[-1][1] == f'{text} Some("me")'
        assert [each for each, _ in seen] == ["local", "hit-local", "local", *["hit-local"] * 2]
        dev.extra["MY_OWN_NAME"] = "you"
        assert outcome(dev, with_library(tmp_path / "you", "one")) == ("local", 'one Some("you")')
        del dev.extra["MY_OWN_NAME"]
        assert outcome(dev, with_library(tmp_path / "nobody", "one")) == ("local", "one None")


@pytest.mark.cargo
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [0, 1])
def test_another_user(tmp_path: Path, workers: int) -> None:
    """What rustc turned out to read here, or on a worker, serves the next one."""
    with running_server(tmp_path / "data", "--workers", str(workers)) as server:
        for name, wanted in (("alice", "remote" if workers else "local"), ("bob", "hit-remote")):
            with developer(tmp_path / name, server.url) as person:
                person.extra["MY_OWN_NAME"] = "me"
                checkout = with_library(tmp_path / f"{name}s place", "text")
                came, said = outcome(person, checkout)
                assert came == wanted and said == 'text Some("me")'


@pytest.mark.parametrize(
    "note",
    [
        b"", b"{}", b"[]", b"[[], [1]]", b"[1, 2]", b'[[], ["/etc/passwd"]]', b"\xff",
        b'[[], ["workspace/../../beside"]]', b'[[], ["elsewhere/x"]]',
    ],
)  # fmt: skip
async def test_a_note_that_is_none(tmp_path: Path, note: bytes) -> None:
    async with rung(tmp_path) as found:
        assert await told(found, note) is None


async def test_a_note(tmp_path: Path) -> None:
    async with rung(tmp_path) as found:
        assert await told(found, b"[[], [], [], []]") == NOTHING
        root = found.unit().roots.workspace
        learned = await told(found, b'[["B", "A"], ["workspace/x", "workspace/a/b"], ["C"], ["l"]]')
        files = (f"{root}/a/b", f"{root}/x")
        assert learned == Learned(frozenset({"A", "B"}), files, frozenset({"C"}), frozenset({"l"}))


async def told(place: Rung, note: bytes) -> Learned | None:
    """What a unit is told by such a note."""
    unit = place.unit()

    async def never(_: object) -> None:
        raise AssertionError

    missed = await place.ladder.resolve(Ask(unit=unit, remote=None, instance="", on_early=never))
    assert isinstance(missed, Miss)
    base = missed.draft.action
    notes = Notes(place.local)
    await notes.keep(note_name(base), note, "")
    return await find_learned(notes, base, unit.roots, None, "")
