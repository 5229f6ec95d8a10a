"""What the journal tells of the keys of two runs of one build script."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote_apis.digest import Digest
from tests.wrapper.test_build_script_reads import ALICE, BOB
from wrapper.action import BuiltAction, of_paths
from wrapper.build_scripts.keys import DependsOn, Value, run_action, script_action
from wrapper.cli.why_miss import answer
from wrapper.keys.explain import Comparison, Explainer
from wrapper.keys.journal import Ended, KeyJournal, Subject
from wrapper.keys.runs import run_changes
from wrapper.preferred import PREFERRED
from wrapper.roots import ROOT, Roots

ONE, TWO = "1" * 64, "2" * 64
Reads = dict[tuple[str, str], Value]


def run(reads: Reads | None = None, reach: str = "none", *declared: str, **more: str) -> DependsOn:
    """What a run depends on; `more` are variables."""
    rows = tuple((kind, name, value) for (kind, name), value in (reads or {}).items())
    return DependsOn(reads=rows, variables=more, declared=declared, reach=reach)


def told(old: DependsOn, new: DependsOn) -> list[tuple[str, str, str | None, str | None]]:
    """The changes, as short as they go."""
    found = run_changes(old, new)
    assert found == run_changes(DependsOn.load(old.dump()), DependsOn.load(new.dump()))
    return [(change.kind, change.name, change.old, change.new) for change in found]


def at(kind: str, name: str, *values: str) -> Reads:
    """One path read, with what is there, or nothing."""
    return {(kind, name): tuple(("", value) for value in values)}


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (at("o", "/x", f"file {ONE}"), at("o", "/x", f"file {TWO}"),
         [("file", "/x", f"file {ONE}", f"file {TWO}")]),
        (at("s", "workspace/x"), at("o", "workspace/x", f"file {ONE}"),
         [("file", "x", None, f"file {ONE}")]),
        (at("o", "workspace/x", f"program {ONE}"), at("s", "workspace/x"),
         [("file", "x", f"program {ONE}", None)]),
        (at("p", "cc", f"program {ONE}"), at("p", "cc", f"program {TWO}"),
         [("program", "cc", f"program {ONE}", f"program {TWO}")]),
        (at("o", "/d", "names -a/>b/@c"), at("o", "/d", "names -a/@b/-d"),
         [("file", "/d/b", "directory", "link"), ("file", "/d/c", "link", None),
          ("file", "/d/d", None, "file")]),
        (at("o", "/d", "names "), at("o", "/d", "names -names x"),
         [("file", "/d/names x", None, "file")]),
        (at("o", "/d", f"many {ONE}"), at("o", "/d", f"many {TWO}"),
         [("listing", "/d", f"many {ONE}", f"many {TWO}")]),
        (at("o", "/d", "link e names -a"), at("o", "/d", "link e names -a/-b"),
         [("file", "/d/b", None, "file")]),
        (at("s", "/d", "directory"), at("o", "/d", "names -a"), []),
        (at("s", "/d", "directory"), at("o", "/d", f"many {ONE}"), []),
        (at("s", "/d", "directory"), at("s", "/d", f"file {ONE}"),
         [("file", "/d", "directory", f"file {ONE}")]),
        (at("o", "/d", "names -a") | at("s", "/d/b"),
         at("o", "/d", "names -a/-b") | at("o", "/d/b", f"file {ONE}"),
         [("file", "/d/b", None, f"file {ONE}")]),
        ({("o", "above:.git"): (("workspace^0", "names -a"),)},
         {("o", "above:.git"): (("workspace^0", "names -a"), ("workspace^1", "names -b"))},
         [("file", ".git above the workspace", None, "names -b")]),
        (at("o", "/x", f"file {ONE}"), at("o", "/y"),
         [("also-read", "/x", f"file {ONE}", None), ("also-read", "/y", None, None)]),
    ],
)  # fmt: skip
def test_what_was_read(
    old: Reads, new: Reads, wanted: list[tuple[str, str, str | None, str | None]]
) -> None:
    assert told(run(old), run(new)) == wanted
    assert told(run(old), run(old)) == []


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (run(A="1"), run(A="2"), [("environment", "A", "1", "2")]),
        (run(None, "any", A="1"), run(None, "none", A="2"), [("environment", "A", "1", "2")]),
        (run(), run(A="1"), [("environment", "A", None, "1")]),
        (run(), run(None, "any", A="1"), [("also-read", "A", None, "1")]),
        (run(), run(None, "none", "A", A="1"), [("also-read", "A", None, "1")]),
        (run(None, "none", "A"), run(None, "none", "A", A="1"), [("environment", "A", None, "1")]),
    ],
)
def test_variables_that_count_in_one_alone(
    old: DependsOn, new: DependsOn, wanted: list[tuple[str, str, str | None, str | None]]
) -> None:
    assert told(old, new) == wanted


SUBJECT = Subject.of_run(f"{ALICE.out_dir}/out", "t")


def script(program: bytes = b"p", roots: Roots = ALICE, **cargos: str) -> BuiltAction:
    environment = {"OUT_DIR": f"{roots.out_dir}/out", "TARGET": "t", **cargos}
    return script_action(Digest.of(program, PREFERRED), environment, roots, "x86_64")


def compared(directory: Path, *actions: BuiltAction) -> tuple[Comparison, str]:
    """The last of some runs against the one before, and the answer to the user."""
    journal = KeyJournal(directory / "keys")
    for action in actions:
        journal.note(SUBJECT, action, 5.0)
        ended = Ended(
            crate="app", package="app", outcome="local", worker=None, reason="new", build="b"
        )
        journal.ended(SUBJECT, ended)
    journal.close()
    explainer = Explainer(directory / "keys")
    (entry,) = explainer.units("app")
    found = explainer.compare(entry)
    explainer.close()
    assert entry.first == 5.0
    return found, "\n".join(answer(found, entry.last))


def test_an_answer(tmp_path: Path) -> None:
    reads = at("o", "workspace/x", f"file {ONE}") | at("s", "/y", f"link {ROOT}/a file {ONE}")
    reads |= {("o", f"workspace/many/{number}"): (("", f"file {ONE}"),) for number in range(20)}
    after = {key: tuple((w, v.replace(ONE, TWO)) for w, v in value) for key, value in reads.items()}
    after |= at("s", "/y", f"link {ROOT}/b file {ONE}") | at("o", "/only", f"file {ONE}")
    old = run_action(script(FEATURE="1"), run(reads, A=f"{ROOT}/workspace/x"))
    new = run_action(script(b"q"), run(after, A=f"{ROOT}/workspace/y"))
    _, text = compared(tmp_path, old, new)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "app (script-run): ran here 0.0 s ago (new)"
    assert lines[2:-1] == [
        "environment FEATURE removed: 1", "the build script changed",
        "environment A: workspace/x → workspace/y", "file /y: link a file → link b file",
        *(f"file many/{n} changed" for n in (0, 1, 10, 11, 12, 13, 14)),
        "file: 14 more",
    ]  # fmt: skip


def test_a_key_whose_reads_are_not_known(tmp_path: Path) -> None:
    """Nobody has such a script's record: what was read before is not said to be gone."""
    reads = at("o", "workspace/x", f"file {ONE}")
    found, _ = compared(tmp_path, run_action(script(), run(reads)), script(b"q"))
    assert found.causes is not None
    assert [cause.change.kind for cause in found.causes] == ["script"]


def test_other_reads_are_told_when_nothing_else_is(tmp_path: Path) -> None:
    old, new = (run_action(script(), run(at("o", name))) for name in ("/x", "/y"))
    _, text = compared(tmp_path, old, new)
    assert "it looked at other things, among them /x" in text


def test_a_result_for_its_own_paths_alone(tmp_path: Path) -> None:
    action = run_action(script(), run(at("o", "/x")))
    there, here = of_paths(action, BOB), of_paths(action, ALICE)
    found, _ = compared(tmp_path, there, here)
    assert found.causes
    assert {cause.change.kind for cause in found.causes} == {"path"}


def test_what_turns_out_later(tmp_path: Path) -> None:
    journal = KeyJournal(tmp_path / "keys")
    first, second = script(), run_action(script(), run())
    ended = Ended(crate="a", package="a", outcome="local", worker=None, reason="new", build="b")
    journal.note(SUBJECT, first)
    journal.ended(SUBJECT, ended)
    journal.explain(SUBJECT, second.digest, "b", "of another")
    journal.explain(SUBJECT, first.digest, "earlier", "of another build")
    journal.explain(SUBJECT, first.digest, "b", "odd")
    journal.amend(SUBJECT, first.digest, second)
    journal.close()
    explainer = Explainer(tmp_path / "keys")
    (entry,) = explainer.units("a")
    explainer.close()
    assert (entry.reason, entry.action) == ("odd", str(second.digest))
