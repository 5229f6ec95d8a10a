"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How bad it is: `warn` costs time or hits, with `fail` nothing is shared at all."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, what was found, and for all but OK what to do about it."""

    grade: Grade
    subject: str
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(grade=Grade.OK, subject=subject, text=text)


def warn(subject: str, text: str, remedy: str) -> Finding:
    """It works, and could work better."""
    return Finding(grade=Grade.WARN, subject=subject, text=text, remedy=remedy)


def fail(subject: str, text: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(grade=Grade.FAIL, subject=subject, text=text, remedy=remedy)
