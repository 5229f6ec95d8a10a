"""The pure policies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from server.scheduler import matching, retries
from server.scheduler.deduplication import sharing_key
from server.scheduler.fairness import Candidate, first
from server.scheduler.values import ExecuteSpec, Failure, Offer, Requirement

LINUX_OR_MAC = Offer(
    "", (("OSFamily", "linux"), ("OSFamily", "macos"), ("container-image", "*"), ("Pool", "x"))
)


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ((), True),
        ((("OSFamily", "linux"),), True),
        ((("OSFamily", "macos"),), True),
        ((("OSFamily", "Linux"),), True),
        ((("OSFamily", "windows"),), False),
        ((("OSFamily", "linux"), ("Pool", "x")), True),
        ((("OSFamily", "linux"), ("Pool", "y")), False),
        ((("container-image", "docker://anything"),), True),
        ((("gpu", "1"),), False),
        ((("OSFamily", "*"),), False),
    ],
)
def test_each_property_must_be_offered(
    platform: tuple[tuple[str, str], ...], expected: bool
) -> None:
    assert matching.matches(Requirement("", platform), LINUX_OR_MAC) is expected


@pytest.mark.parametrize(
    ("prefix", "instance", "expected", "suffix"),
    [
        ("", "", True, ""),
        ("", "a/b", True, "a/b"),
        ("a", "a", True, ""),
        ("a", "a/b/c", True, "b/c"),
        ("a", "ab", False, None),
        ("a/b", "a", False, None),
    ],
)
def test_instance_names_match_by_whole_segments(
    prefix: str, instance: str, expected: bool, suffix: str | None
) -> None:
    assert matching.serves(prefix, instance) is expected
    if suffix is not None:
        assert matching.suffix(prefix, instance) == suffix


def test_an_explanation_names_what_is_missing() -> None:
    linux, windows = Offer("", (("OSFamily", "linux"),)), Offer("", (("OSFamily", "windows"),))
    large = Offer("", (("OSFamily", "windows"), ("Pool", "large")))
    explain = matching.explain
    assert explain(Requirement("", ()), []) == "no worker is connected"
    assert "'b'" in explain(Requirement("b", ()), [Offer("a", ())])
    assert "'gpu'" in explain(Requirement("", (("gpu", "1"),)), [linux])
    message = explain(Requirement("", (("OSFamily", "plan9"),)), [linux, windows])
    assert "'plan9' (offered: 'linux', 'windows')" in message
    both = Requirement("", (("OSFamily", "linux"), ("Pool", "large")))
    assert "OSFamily=linux, Pool=large together" in explain(both, [linux, large])


@pytest.mark.row(87)
def test_names_that_nobody_knows_are_found() -> None:
    platform = (("Pool", "x"), ("colour", "red"), ("gpu", "1"))
    offers = [Offer("", (("gpu", "2"),))]
    assert matching.unknown_names(platform, offers, {"Pool"}) == ["colour"]


def test_instructions_do_not_choose_a_worker() -> None:
    platform = (("OSFamily", "linux"), ("dockerNetwork", "off"))
    assert matching.selecting(platform) == (("OSFamily", "linux"),)


_NAMES = st.sampled_from(["OSFamily", "Pool", "ISA"])
_VALUES = st.sampled_from(["a", "b", "c"])
_PLATFORMS = st.lists(st.tuples(_NAMES, _VALUES), max_size=4).map(lambda x: tuple(sorted(set(x))))


@given(platform=_PLATFORMS, offered=_PLATFORMS, more=_PLATFORMS)
def test_offering_more_never_matches_less(
    platform: tuple[tuple[str, str], ...],
    offered: tuple[tuple[str, str], ...],
    more: tuple[tuple[str, str], ...],
) -> None:
    requirement = Requirement("", platform)
    wider = Offer("", tuple(sorted({*offered, *more})))
    if matching.matches(requirement, Offer("", offered)):
        assert matching.matches(requirement, wider)
    if not matching.matches(requirement, wider):
        assert matching.explain(requirement, [wider]).startswith("no worker")


def test_priority_comes_before_fairness_and_fairness_before_order() -> None:
    urgent = Candidate(priority=-1, executing=9, served=9, position=9)
    starved = Candidate(priority=0, executing=0, served=5, position=7)
    longest_ago = Candidate(priority=0, executing=0, served=2, position=8)
    assert first([starved, urgent, longest_ago]) == urgent
    assert first([starved, longest_ago]) == longest_ago
    assert first([]) is None


@pytest.mark.parametrize("code", [1, 2, 8, 10, 13, 14, 15])
def test_these_codes_are_the_workers_fault(code: int) -> None:
    assert retries.is_worker_fault(code)


@pytest.mark.parametrize("code", [0, 3, 4, 5, 7, 9, 12])
def test_these_codes_are_not(code: int) -> None:
    assert not retries.is_worker_fault(code)


def test_the_last_attempt_is_the_limit() -> None:
    assert retries.may_retry(attempts=2, limit=3)
    assert not retries.may_retry(attempts=3, limit=3)
    reason = Failure(code=14, message="worker w was lost")
    assert retries.given_up(attempts=3, reason=reason) == Failure(
        code=14, message="worker w was lost; given up after 3 attempt(s)"
    )


@pytest.mark.row(81)
def test_only_cacheable_requests_of_one_instance_share() -> None:
    digest = Digest.of(b"action", DigestFunction.BLAKE3)

    def spec(instance: str, *, do_not_cache: bool = False) -> ExecuteSpec:
        return ExecuteSpec(
            requirement=Requirement(instance, ()),
            packed_digest=digest.packed(),
            action=b"",
            do_not_cache=do_not_cache,
        )

    assert sharing_key(spec("a")) == sharing_key(spec("a"))
    assert sharing_key(spec("a")) != sharing_key(spec("b"))
    assert sharing_key(spec("a", do_not_cache=True)) is None
