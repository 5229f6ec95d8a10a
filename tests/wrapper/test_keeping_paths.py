"""Which paths an artifact for others must not hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wrapper.roots import Place, Roots
from wrapper.whose import fewest, paths_of_checkout, real_paths

PATHS = st.lists(st.from_regex(r"(/[ab-]{1,2}){1,4}", fullmatch=True), min_size=1, max_size=6)


@given(PATHS, st.from_regex(r"x?(/[ab-]{1,2}){0,5}", fullmatch=True))
def test_fewer_paths_find_the_same(paths: list[str], text: str) -> None:
    found = fewest(paths)
    assert any(each in text.encode() for each in found) == any(path in text for path in paths)
    assert not any(a != b and b.startswith(a) for a in found for b in found)


def test_what_is_never_sent_may_be_held() -> None:
    roots = Roots(
        places=(Place(real="/here", staged="", recorded="/r"),),
        workspace="/w", package="/p", out_dir="/o", target="/t",
    )  # fmt: skip
    assert real_paths(roots) == []


def test_what_a_users_other_checkouts_get_may_hold() -> None:
    """Not what lies above the checkout alone: a program may go upwards from its package."""
    places = [
        ("/home/me", "home"), ("/home/me/.cargo/registry/src/i/x-1", "cargo/registry/src/i/x-1"),
        ("/home/me/work/old/w", "workspace"), ("/home/me/work/old/w/target", "target"),
        ("/srv/a/o", "package/o-1"),
    ]  # fmt: skip
    roots = Roots(
        places=tuple(Place(real=real, staged=staged, recorded="") for real, staged in places),
        workspace="/home/me/work/old/w", package="/home/me/work/old/w", out_dir="/o", target="/t",
    )  # fmt: skip
    assert fewest(real_paths(roots)) == [b"/home/me", b"/srv/a"]
    assert fewest(paths_of_checkout(roots)) == [b"/home/me/work", b"/srv/a"]
