"""bgd, BuildGrid's client: capabilities, CAS and action cache."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from google.protobuf.message import Message

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

from .buildgrid import Bgd, digest_of

pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]


def test_capabilities(bgd: Bgd) -> None:
    answer = json.loads(bgd("capabilities").stdout)
    assert answer["executionCapabilities"]["execEnabled"] is True
    assert "SHA256" in answer["cacheCapabilities"]["digestFunctions"]
    assert answer["cacheCapabilities"]["actionCacheUpdateCapabilities"]["updateEnabled"] is True
    assert answer["lowApiVersion"] == {"major": 2}
    assert answer["highApiVersion"] == {"major": 2, "minor": 12}


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_file_travels_both_ways(bgd: Bgd, tmp_path: Path, size: int) -> None:
    """Small ones go in a batch, large ones by ByteStream."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    digest = bgd.upload("upload-file", source)[str(source)]
    assert digest == digest_of(source.read_bytes())
    copy = bgd.download("download-file", digest, tmp_path / "copy")
    assert copy.read_bytes() == source.read_bytes()


def test_a_directory_travels_both_ways(bgd: Bgd, root: Path, tmp_path: Path) -> None:
    digest = bgd.upload("upload-dir", root)[str(root)]
    copy = bgd.download("download-dir", digest, tmp_path / "copy")
    names = sorted(path.relative_to(root) for path in root.rglob("*"))
    assert sorted(path.relative_to(copy) for path in copy.rglob("*")) == names
    assert (copy / "link").readlink() == Path("sub/deep/two.txt")
    assert (copy / "sub/deep/two.txt").read_text() == "two\n"
    assert (copy / "run.sh").stat().st_mode & 0o111
    assert not (copy / "one.txt").stat().st_mode & 0o111


def test_an_absent_blob_is_an_error(bgd: Bgd, tmp_path: Path) -> None:
    for verb in ("download-file", "download-dir"):
        failed = bgd("cas", verb, digest_of(b"nobody uploaded this"), tmp_path / "x", status=255)
        assert "Error:" in failed.stderr


def test_results_put_into_the_action_cache_are_found(bgd: Bgd, tmp_path: Path) -> None:
    messages: dict[str, Message] = {
        "command": re_pb.Command(arguments=["true"]),
        "tree": re_pb.Directory(),
    }
    pointers = [pointer(message.SerializeToString()) for message in messages.values()]
    messages["action"] = re_pb.Action(command_digest=pointers[0], input_root_digest=pointers[1])
    messages["result"] = re_pb.ActionResult(stdout_raw=b"from the cache")
    paths = [tmp_path / name for name in messages]
    for path in paths:
        path.write_bytes(messages[path.name].SerializeToString())
    digests = bgd.upload("upload-file", *paths)
    key = digests[str(tmp_path / "action")]
    assert bgd.cached(key) is None
    bgd("actioncache", "update", key, digests[str(tmp_path / "result")])
    found = bgd.cached(key)
    assert found is not None
    # The server may keep the text as a blob, since nobody asked for it to be inlined.
    if "stdoutRaw" in found:
        assert base64.b64decode(found["stdoutRaw"]) == b"from the cache"
    else:
        said = f"{found['stdoutDigest']['hash']}/{found['stdoutDigest']['sizeBytes']}"
        copy = bgd.download("download-file", said, tmp_path / "copy")
        assert copy.read_bytes() == b"from the cache"


def pointer(data: bytes) -> re_pb.Digest:
    hash_, _, size = digest_of(data).partition("/")
    return re_pb.Digest(hash=hash_, size_bytes=int(size))
