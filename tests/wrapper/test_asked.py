"""Which variables a key learns of those for which macros asked."""

from __future__ import annotations

from wrapper.asked import asked_for, is_told


def test_names() -> None:
    accesses = b"v\0vONE\0o/some/vfile\0vtwo words\0O/v\0Vof a linker's\0s/x\0vONE\0"
    assert asked_for(accesses, {}) == {"ONE", "two words"}
    assert asked_for(b"", {}) == set()


def test_whether_anything_is_told() -> None:
    assert is_told(b"v\0vONE\0") and is_told(b"o/x\0v\0")
    assert not is_told(b"") and not is_told(b"o/v\0vONE\0")


def test_what_every_key_has() -> None:
    accesses = b"v\0vCARGO_PKG_NAME\0vCARGO_MANIFEST_DIR\0vOUT_DIR\0vCARGO_CFG_UNIX\0"
    assert asked_for(accesses, {"CARGO_PKG_NAME": "x"}) == {"CARGO_CFG_UNIX"}


def test_what_differs_between_users_and_changes_nothing() -> None:
    assert asked_for(b"vHOME\0vPATH\0vUSER\0", {}) == {"USER"}
