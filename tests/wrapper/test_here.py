"""What the end of a compile here says."""

from __future__ import annotations

import pytest

from wrapper.daemon.protocol import LocalRun
from wrapper.here import METADATA, _looks_by_name

BESIDE = b"couldn't read `/distbuild/w/dep/src/lib.rs.txt`: No such file"


@pytest.mark.parametrize(
    ("status", "said", "is_so"),
    [
        (256, BESIDE, True),
        (256, BESIDE.replace(b"`", b""), True),  # until 1.7x
        (256, BESIDE.replace(b"/distbuild/", b"/home/"), False),
        (256, METADATA + BESIDE, False),
        (0, BESIDE, False),
    ],
)
def test_a_compile_that_looks_for_files_by_its_sources_names(
    status: int, said: bytes, is_so: bool
) -> None:
    assert _looks_by_name(LocalRun(status=status, stderr=said)) == is_so
