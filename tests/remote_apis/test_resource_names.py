"""Resource names: what is formatted is parsed, and nothing else is."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.resource_names import (
    BlobName,
    check_instance_name,
    parse_read_name,
    parse_write_name,
)

KEYWORDS = [
    *("blobs", "uploads", "actions", "actionResults", "operations", "capabilities"),
    "compressed-blobs",
]
UPLOAD = "00000000-0000-4000-8000-000000000000"

segments = st.text(
    st.characters(exclude_characters="/", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20
).filter(lambda segment: segment not in (*KEYWORDS, ".", ".."))
instances = st.lists(segments, max_size=4).map("/".join)
digests = st.builds(Digest.of, st.binary(max_size=50), st.sampled_from(DigestFunction))
names = st.builds(
    BlobName, instance=instances, digest=digests, compressor=st.sampled_from(Compressor)
)


@pytest.mark.row(24)
@given(names)
def test_read_names_come_back(name: BlobName) -> None:
    assert parse_read_name(name.to_read()) == name


@pytest.mark.row(22)
@pytest.mark.row(23)
@pytest.mark.row(27)
@given(names, st.uuids(version=4), st.sampled_from(["", "/", "/a", "/blobs/uploads/x", "/sha1/0"]))
def test_write_names_come_back(name: BlobName, upload_id: uuid.UUID, metadata: str) -> None:
    parsed = parse_write_name(name.to_write(str(upload_id)) + metadata)
    assert parsed.blob == name
    assert parsed.upload_id == str(upload_id)


@given(
    st.one_of(
        st.text(), st.lists(st.sampled_from([*KEYWORDS, "", "zstd", "a" * 64, "1"])).map("/".join)
    )
)
def test_anything_else_is_refused_and_nothing_crashes(text: str) -> None:
    for parse in (parse_read_name, parse_write_name):
        try:
            parse(text)
        except InvalidRequest as error:
            assert str(error)


SHA256 = Digest.of(b"12345", DigestFunction.SHA256)
TREE = Digest.of(b"12345", DigestFunction.SHA256TREE)


@pytest.mark.row(22)
@pytest.mark.row(25)
@pytest.mark.parametrize(
    ("digest", "compressor", "instance", "read", "write"),
    [
        (SHA256, Compressor.IDENTITY, "", "blobs/{hash}/5", "uploads/{id}/blobs/{hash}/5"),
        (
            TREE,
            Compressor.IDENTITY,
            "a/b",
            "a/b/blobs/sha256tree/{hash}/5",
            "a/b/uploads/{id}/blobs/sha256tree/{hash}/5",
        ),
        (
            SHA256,
            Compressor.ZSTD,
            "a",
            "a/compressed-blobs/zstd/{hash}/5",
            "a/uploads/{id}/compressed-blobs/zstd/{hash}/5",
        ),
        (
            TREE,
            Compressor.DEFLATE,
            "",
            "compressed-blobs/deflate/sha256tree/{hash}/5",
            "uploads/{id}/compressed-blobs/deflate/sha256tree/{hash}/5",
        ),
    ],
)
def test_the_forms(
    digest: Digest, compressor: Compressor, instance: str, read: str, write: str
) -> None:
    name = BlobName(instance=instance, digest=digest, compressor=compressor)
    assert name.to_read() == read.format(hash=digest.hash)
    assert name.to_write(UPLOAD) == write.format(hash=digest.hash, id=UPLOAD)


@pytest.mark.row(26)
@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("pattern", ["{}", "a/{}", "{}/a", "a/{}/b"])
def test_keywords_in_instance_names(keyword: str, pattern: str) -> None:
    with pytest.raises(InvalidRequest, match=keyword):
        check_instance_name(pattern.format(keyword))


@pytest.mark.row(26)
@given(instances)
def test_valid_instance_names(instance: str) -> None:
    assert check_instance_name(instance) == instance


@pytest.mark.row(26)
@pytest.mark.parametrize(
    "instance", ["/", "/a", "a/", "a//b", ".", "a/..", "a\nb", "\0", "x" * 1025]
)
def test_other_bad_instance_names(instance: str) -> None:
    with pytest.raises(InvalidRequest, match="instance name"):
        check_instance_name(instance)
