"""Every reason for compiling here is in docs/not-cached.md, and some test has it come about."""

from __future__ import annotations

import re
from pathlib import Path

from tests.wrapper.reason_texts import (
    ROOT,
    reasons_of_keeping,
    reasons_of_runs,
    reasons_of_the_code,
)
from tests.wrapper.test_e2e_build_scripts import CODE_NOT_KEPT
from tests.wrapper.test_reasons import (
    COMMAND_LINES,
    COMPILERS,
    FILES,
    OPTIONS_OF,
    SOURCES,
    VARIABLES,
    WORKERS,
)

PAGE = ROOT / "docs" / "not-cached.md"
_ROW = re.compile(r"^\| `(.+?)` \|", re.MULTILINE)
NOT_PROVOKED = {"the linker … does not answer: …"}
"""Comes about when a compiler answered one question and fails at the next."""


def test_the_page_has_every_reason_and_no_other() -> None:
    of_units = reasons_of_the_code() | reasons_of_keeping()
    assert set(_ROW.findall(PAGE.read_text())) == of_units | reasons_of_runs()


def _provoked_in(name: str) -> set[str]:
    """What calls of `provokes` name in a file of tests."""
    return set(re.findall(r'provokes\(\s*"(.+?)"', Path(__file__).with_name(name).read_text()))


def test_every_reason_of_a_run_is_provoked() -> None:
    files = ("test_e2e_build_scripts.py", "test_build_script_runs.py", "test_launcher.py")
    calls = {reason for name in files for reason in _provoked_in(name)}
    assert calls | set(CODE_NOT_KEPT) == reasons_of_runs()


def test_every_reason_for_keeping_nothing_is_provoked() -> None:
    files = (
        "test_keeping.py", "test_e2e_local.py", "test_e2e_macros.py", "test_macro_watch.py",
        "test_e2e_places.py", "test_e2e_apart.py",
    )  # fmt: skip
    calls = {reason for name in files for reason in _provoked_in(name)}
    assert calls == reasons_of_keeping()


def test_every_reason_is_provoked() -> None:
    """In a table of test_reasons, or by a call of `provokes` that names it."""
    calls = _provoked_in("test_reasons.py") | _provoked_in("test_e2e_by_name.py")
    tables = {*COMMAND_LINES, *FILES, *OPTIONS_OF, *VARIABLES, *COMPILERS, *WORKERS, *SOURCES}
    assert tables | calls | NOT_PROVOKED == reasons_of_the_code()
