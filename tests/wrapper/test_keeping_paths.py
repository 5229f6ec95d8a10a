"""Which paths an artifact for others must not hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wrapper.roots import Place, Roots
from wrapper.whose import paths_of_checkout, real_paths

PATHS = st.lists(st.from_regex(r"(/[ab-]{1,2}){1,4}", fullmatch=True), min_size=1, max_size=6)


def roots_of(paths: list[str]) -> Roots:
    places = tuple(Place(real=path, staged="s", recorded="/r") for path in paths)
    return Roots(places=places, workspace="/w", package="/p", out_dir="/o", target="/t")


@given(PATHS, st.from_regex(r"x?(/[ab-]{1,2}){0,5}", fullmatch=True))
def test_fewer_paths_find_the_same(paths: list[str], text: str) -> None:
    fewest = real_paths(roots_of(paths))
    found = any(path.encode() in text.encode() for path in paths)
    assert any(path in text.encode() for path in fewest) == found
    assert not any(a != b and b.startswith(a) for a in fewest for b in fewest)


def test_what_is_never_sent_may_be_held() -> None:
    roots = Roots(
        places=(Place(real="/here", staged="", recorded="/r"),),
        workspace="/w", package="/p", out_dir="/o", target="/t",
    )  # fmt: skip
    assert real_paths(roots) == []


def test_what_a_users_other_checkouts_get_may_hold() -> None:
    places = [
        ("/home/me", "home"), ("/home/me/.cargo/registry/src/i/x-1", "cargo/registry/src/i/x-1"),
        ("/home/me/w", "workspace"), ("/home/me/w/target", "target"), ("/o", "package/o-1"),
    ]  # fmt: skip
    roots = Roots(
        places=tuple(Place(real=real, staged=staged, recorded="") for real, staged in places),
        workspace="/home/me/w", package="/home/me/w", out_dir="/home/me/w/target", target="",
    )  # fmt: skip
    assert real_paths(roots) == [b"/home/me", b"/o"]
    assert paths_of_checkout(roots) == [b"/home/me/w", b"/o"]
