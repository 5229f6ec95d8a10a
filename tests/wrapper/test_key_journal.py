"""What the journal keeps of keys, and what it says has changed between two."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.link_set import PROPERTY
from remote_apis.tree_builder import TreeBuilder
from wrapper.action import BuiltAction, build_action, of_paths
from wrapper.cli.why_miss import why_miss
from wrapper.home import Home
from wrapper.inputs.inputs import Inputs
from wrapper.keys import journal as journal_module
from wrapper.keys.change import Change
from wrapper.keys.explain import Comparison, Explainer
from wrapper.keys.journal import KEPT_ACTIONS, Ended, KeyJournal, Subject
from wrapper.roots import Roots, find_roots
from wrapper.rustc.arguments import Invocation, parse
from wrapper.script import absent_of, commands_of, runner_script

SHA256 = DigestFunction.SHA256


def digest(text: str) -> Digest:
    return Digest.of(text.encode(), SHA256)


@dataclass(frozen=True)
class Compile:
    """One compile of a made-up unit `app`; `files` of its package, `externs` by file name."""

    options: str = "--edition=2021 -C opt-level=0"
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=lambda: {"src/lib.rs": "1", "Cargo.toml": "1"})
    externs: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    toolchain: str = "1.95"
    link_set: str | None = None
    name: str = "app"
    suffix: str = "-1"
    workspace: str = "/w"

    @property
    def target(self) -> str:
        return f"{self.workspace}/target"

    @property
    def invocation(self) -> Invocation:
        externs = [
            f"--extern {name[3:].split('-')[0]}={self.target}/debug/deps/{name}"
            for name in self.externs
        ]
        words = (
            f"/t/bin/rustc --crate-name {self.name} {self.options} src/lib.rs --crate-type lib "
            f"--emit=dep-info,metadata,link -C extra-filename={self.suffix} "
            f"--out-dir {self.target}/debug/deps {' '.join(externs)}"
        )
        return parse(words.split())

    @property
    def roots(self) -> Roots:
        return find_roots(
            cwd=self.workspace, source="src/lib.rs", out_dir=f"{self.target}/debug/deps",
            triple=None, environment={"CARGO_MANIFEST_DIR": self.workspace}, sources=None,
        )  # fmt: skip

    def action(self) -> BuiltAction:
        blobs: dict[Digest, bytes] = {}
        package = TreeBuilder(SHA256)
        for path, text in self.files.items():
            package.add_file(path, digest(text))
        toolchain = TreeBuilder(SHA256)
        toolchain.add_file("bin/rustc", digest(self.toolchain))
        inputs = Inputs(
            function=SHA256,
            directories={"workspace": package.build(blobs), "toolchain": toolchain.build(blobs)},
            files={
                **{
                    f"target/debug/deps/{name}": digest(text) for name, text in self.externs.items()
                },
                **{path: digest(text) for path, text in self.beside.items()},
            },
            blobs=dict(blobs),
        )
        return build_action(
            invocation=self.invocation, roots=self.roots, environment=self.environment,
            inputs=inputs,
            platform={"Arch": "x"} | ({PROPERTY: self.link_set} if self.link_set else {}),
        )  # fmt: skip


@dataclass
class Book:
    """A journal with a clock that goes on by a second with every entry."""

    path: Path
    now: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.journal = KeyJournal(self.path, clock=lambda: self.now)

    def add(
        self,
        compile_: Compile,
        outcome: str = "local",
        reason: str | None = "new",
        build: str = "b",
    ) -> None:
        self.now += 1
        self.journal.note(Subject.of(compile_.invocation), compile_.action())
        self.end(compile_, outcome, reason, build)

    def end(
        self, compile_: Compile, outcome: str = "local", reason: str | None = None, build: str = "b"
    ) -> None:
        ended = Ended(
            crate=compile_.name, package=compile_.name, outcome=outcome, worker=None,
            reason=reason, build=build,
        )  # fmt: skip
        self.journal.ended(Subject.of(compile_.invocation), ended)

    def compare(self, crate: str = "app") -> Comparison:
        explainer = Explainer(self.path)
        try:
            return explainer.compare(explainer.units(crate)[-1])
        finally:
            explainer.close()

    def changes(self, crate: str = "app") -> list[Change]:
        causes = self.compare(crate).causes
        assert causes is not None
        return [cause.change for cause in causes]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    found = Book(tmp_path / "keys.sqlite")
    yield found
    found.journal.close()


def change(kind: str, name: str, old: str | None, new: str | None) -> Change:
    return Change(kind=kind, name=name, old=old, new=new)


FILES = {"src/lib.rs": "1", "Cargo.toml": "1"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            Compile(options="--edition=2021 -C opt-level=3"),
            [("option", "-C opt-level", "0", "3")],
        ),
        (Compile(options="--edition=2021"), [("option", "-C opt-level", "0", None)]),
        (
            Compile(options="--edition=2021 -C opt-level=0 --cfg feature"),
            [("option", "--cfg", None, "feature")],
        ),
        (Compile(environment={"A": "1"}), [("environment", "A", None, "1")]),
        (Compile(files={**FILES, "src/lib.rs": "2"}), [("source", "src/lib.rs", "1", "2")]),
        (Compile(files={**FILES, "a/b.rs": "2"}), [("source", "a/b.rs", None, "2")]),
        (Compile(files={"src/lib.rs": "1"}), [("source", "Cargo.toml", "1", None)]),
        (Compile(toolchain="1.96"), [("toolchain", "toolchain/bin/rustc", "1.95", "1.96")]),
        (Compile(link_set="aa"), [("link-set", PROPERTY, None, "aa")]),
        (
            Compile(beside={"target/debug/build/app-2/out/x.rs": "1"}),
            [("build-output", "app-2/out/x.rs", None, "1")],
        ),
        (Compile(externs={"libdep-7.rmeta": "1"}), [("dependency", "dep", None, "dep-7")]),
    ],
)
def test_the_one_thing_that_changed(
    book: Book, changed: Compile, expected: list[tuple[str, str, str | None, str | None]]
) -> None:
    book.add(Compile())
    book.add(changed)
    by_digest = ("source", "toolchain", "build-output")
    wanted = [
        change(
            kind, name,
            str(digest(old)) if old and kind in by_digest else old,
            str(digest(new)) if new and kind in by_digest else new,
        )
        for kind, name, old, new in expected
    ]  # fmt: skip
    assert book.changes() == wanted


def test_old_and_new_value_of_a_variable(book: Book) -> None:
    book.add(Compile(environment={"VERSION": "1.0", "AT": "/w/x"}))
    book.add(Compile(environment={"VERSION": "1.1", "AT": "/w/y"}))
    assert book.changes() == [
        change("environment", "AT", "workspace/x", "workspace/y"),
        change("environment", "VERSION", "1.0", "1.1"),
    ]


def test_never_seen(book: Book) -> None:
    book.add(Compile())
    found = book.compare()
    assert (found.before, found.causes, found.entry.outcome) == (None, (), "local")


def test_a_unit_that_was_refused_has_no_key(book: Book) -> None:
    book.end(Compile(), "local", "uses something odd")
    found = book.compare()
    assert (found.entry.action, found.entry.reason) == (None, "uses something odd")


def test_the_same_key_again_is_one_entry(book: Book) -> None:
    book.add(Compile())
    book.add(Compile(), "hit-local", None)
    assert book.compare().entry.outcome == "hit-local"
    assert book.compare().before is None


def test_the_one_before_is_the_last_other_key(book: Book) -> None:
    first, second = Compile(), Compile(toolchain="1.96")
    for each in (first, second, first, second, second):
        book.add(each)
    assert [each.kind for each in book.changes()] == ["toolchain"]
    for number in range(10):
        book.add(Compile(toolchain=f"2.{number}"))
    rows = sqlite3.connect(book.path)
    assert rows.execute("SELECT count(*) FROM actions").fetchone()[0] == KEPT_ACTIONS
    rows.close()


def test_another_hash_of_cargos_is_told_by_what_is_behind_it(book: Book) -> None:
    book.add(Compile(suffix="-1"))
    book.add(Compile(suffix="-2", options="--edition=2021 -C opt-level=2"))
    assert book.changes() == [change("option", "-C opt-level", "0", "2")]
    book.add(Compile(suffix="-3", options="--edition=2021 -C opt-level=2"))
    assert book.changes() == [change("cargo-hash", "-C extra-filename", "-2", "-3")]


def test_another_checkout_is_compared_when_this_one_has_nothing(book: Book) -> None:
    book.add(Compile(workspace="/elsewhere"))
    book.add(Compile(files={"src/lib.rs": "9", "Cargo.toml": "1"}))
    found = book.compare()
    assert found.is_elsewhere and found.before is not None
    assert [each.name for each in book.changes()] == ["src/lib.rs"]


def test_a_result_for_its_own_paths(book: Book) -> None:
    there = Compile(workspace="/elsewhere")
    book.add(there)
    own = of_paths(there.action(), there.roots)
    book.journal.amend(Subject.of(there.invocation), there.action().digest, own)
    book.add(Compile())
    found = book.compare()
    assert (found.is_elsewhere, found.is_of_path, found.causes) == (True, True, ())


def test_amending_leaves_a_later_entry_alone(book: Book) -> None:
    first, second = Compile(), Compile(toolchain="1.96")
    book.add(first)
    book.add(second)
    other = Compile(link_set="z").action()
    book.journal.amend(Subject.of(first.invocation), first.action().digest, other)
    assert [each.kind for each in book.changes()] == ["toolchain"]


def test_down_to_the_root_and_once(book: Book) -> None:
    """app needs mid and base, mid needs base: base is what changed, and is told once."""

    def build(source: str, outputs: str) -> None:
        base = Compile(name="base", files={"src/lib.rs": source})
        mid = Compile(name="mid", externs={"libbase-1.rmeta": outputs})
        app = Compile(externs={"libbase-1.rmeta": outputs, "libmid-1.rmeta": outputs})
        for each in (base, mid, app):
            book.add(each)

    build("1", "one")
    build("2", "two")
    causes = book.compare().causes
    assert causes is not None and [c.change.name for c in causes] == ["base", "mid"]
    base, mid = causes
    assert base.below is not None and base.below.causes is not None
    assert [c.change.name for c in base.below.causes] == ["src/lib.rs"]
    assert mid.below is not None and mid.below.causes is not None
    assert [(c.change.name, c.is_told) for c in mid.below.causes] == [("base", True)]


def test_units_are_those_of_the_last_build(book: Book) -> None:
    book.add(Compile(suffix="-1"), build="one")
    book.add(Compile(suffix="-2"), build="two")
    book.add(Compile(suffix="-3"), build="two")
    explainer = Explainer(book.path)
    assert [each.name for each in explainer.units("app")] == ["app-2", "app-3"]
    assert explainer.units("other") == []
    explainer.close()


def test_names_with_hyphens(book: Book) -> None:
    book.add(Compile(name="my_app"))
    explainer = Explainer(book.path)
    assert len(explainer.units("my-app")) == len(explainer.units("my_app")) == 1
    explainer.close()


def test_messages_that_are_gone(book: Book) -> None:
    book.add(Compile())
    book.add(Compile(toolchain="1.96"))
    other = sqlite3.connect(book.path, isolation_level=None)
    other.execute("DELETE FROM messages")
    other.close()
    assert book.compare().causes is None


def test_it_shrinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.sqlite"
    book = Book(path)
    book.add(Compile(name="old"))
    book.now += 10 * 86400
    book.add(Compile(toolchain="1.96"))
    book.journal.close()
    monkeypatch.setattr(journal_module, "MAX_BYTES", path.stat().st_size - 1)
    again = Book(path, now=book.now)
    explainer = Explainer(path)
    assert explainer.units("old") == []
    explainer.close()
    again.journal.close()


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    book = Book(path)
    book.add(Compile())
    assert book.compare().entry.crate == "app"
    book.journal.close()


def test_a_file_that_is_damaged_within(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path)
    book = Book(home.keys)
    for number in range(60):
        book.add(Compile(toolchain=f"1.{number}"))
    book.journal.close()
    data = bytearray(home.keys.read_bytes())
    data[4096:] = b"?" * (len(data) - 4096)
    home.keys.write_bytes(data)
    assert why_miss(home, ["app"]) == 1
    assert "keys.sqlite cannot be read: " in capsys.readouterr().err
    again = Book(home.keys)
    for _ in range(2):  # the first one is lost by which the damage was seen
        again.add(Compile())
    assert again.compare().entry.crate == "app"
    again.journal.close()
    assert why_miss(home, ["app"]) == 0


def test_a_journal_that_cannot_be_written_stops_nobody(book: Book) -> None:
    book.journal.close()
    book.add(Compile())


names = st.text("ABC_", min_size=1, max_size=5)
texts = st.text(
    st.characters(exclude_characters="\0\r\x01", exclude_categories=["Cs"]), max_size=20
)


@given(
    st.dictionaries(names, texts),
    st.lists(texts.filter(lambda t: not t.startswith("-"))),
    st.sets(texts),
)
def test_a_script_can_be_read_again(
    environment: dict[str, str], words: list[str], absent: set[str]
) -> None:
    command = ["/toolchain/bin/rustc", *words]
    script = runner_script(directory="/d", environment=environment, command=command, absent=absent)
    assert commands_of(script) == (environment, command)
    assert absent_of(script) == sorted(each.replace("\n", "\\n") for each in absent)


@pytest.mark.parametrize("script", [b"", b"echo hello\n", b"a\nexec rm -rf\n"])
def test_another_script_cannot(script: bytes) -> None:
    with pytest.raises(ValueError, match="script"):
        commands_of(script)
