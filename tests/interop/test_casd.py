"""buildbox-casd as a caching proxy in front of our server, for every service it forwards."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_apis.stubs.build.bazel.remote.asset.v1 import remote_asset_pb2

from .buildgrid import Bgd, action_of, digest_of
from .casd import Casd, StartCasd, casd_starter
from .conftest import Server
from .grpcurl import Grpcurl, digest_message
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]

CHUNKING = "--enable-chunking-for-instance="
ASSET = "build.bazel.remote.asset.v1"


@pytest.fixture
def start_casd(tools: Tools, short_path: Path) -> Iterator[StartCasd]:
    yield from casd_starter(tools, short_path)


def through(casd: Casd, bgd: Bgd) -> Bgd:
    """The same user, whose server is the proxy."""
    return Bgd(tools=bgd.tools, home=bgd.home, url=casd.url)


def test_blobs_put_through_one_proxy_are_had_through_another(
    bgd: Bgd, server: Server, start_casd: StartCasd, root: Path, tmp_path: Path
) -> None:
    large = root / "large"
    large.write_bytes(os.urandom(6_000_000))
    near = through(start_casd("near", server.http_url), bgd)
    digest = near.upload("upload-dir", root)[str(root)]
    direct = bgd.download("download-dir", digest, tmp_path / "direct")
    assert (direct / "large").read_bytes() == large.read_bytes()
    far = through(start_casd("far", server.http_url), bgd)
    copy = far.download("download-dir", digest, tmp_path / "copy")
    assert (copy / "large").read_bytes() == large.read_bytes()
    assert (copy / "link").read_text() == "two\n"


def test_an_absent_blob_stays_absent(bgd: Bgd, server: Server, start_casd: StartCasd) -> None:
    near = through(start_casd("near", server.http_url), bgd)
    near("cas", "download-file", digest_of(b"nobody has this"), bgd.home / "x", status=255)


def test_large_blobs_travel_in_chunks(
    bgd: Bgd, server: Server, start_casd: StartCasd, tmp_path: Path
) -> None:
    """Up by SpliceBlob, down by SplitBlob, and an edit moves only the chunks around it."""
    blob = bytearray(random.Random(1).randbytes(20_000_000))
    source = tmp_path / "source"
    near, far = (start_casd(name, server.http_url, CHUNKING) for name in ("near", "far"))
    seen: list[set[Path]] = []
    for edit in (b"", b"an edit"):
        blob[10_000_000 : 10_000_000 + len(edit)] = edit
        source.write_bytes(blob)
        digest = digest_of(source.read_bytes())
        near.local("capture", source)
        assert f"{digest}: {len(blob)} bytes uploaded" not in near.log.read_text(), "sent whole"
        far.local("fetch", digest)
        assert f"{digest}: {len(blob)} bytes retrieved" not in far.log.read_text(), "had whole"
        assert far.object(digest).read_bytes() == blob
        direct = bgd.download("download-file", digest, tmp_path / f"direct-{len(seen)}")
        assert direct.read_bytes() == blob
        seen.append(far.objects())
    # The far proxy keeps the chunks it was sent beside the blob itself.
    assert len(seen[0]) > 10
    assert len(seen[1] - seen[0]) <= 4


def test_actions_run_and_are_cached_through_the_proxy(
    bgd: Bgd, server: Server, start_casd: StartCasd, root: Path, tmp_path: Path
) -> None:
    near = through(start_casd("near", server.http_url), bgd)
    options = ["--output-file", "all", "--output-directory", str(tmp_path / "out"), "-c"]
    words = ("/bin/sh", "-c", "cat one.txt link > all; date +%s.%N >> all")
    action = action_of(near.execute(root, *words, options=options))
    first = (tmp_path / "out" / "all").read_text()
    assert first.startswith("one\ntwo\n")
    assert near.cached(action) == bgd.cached(action) is not None
    far = through(start_casd("far", server.http_url), bgd)
    far.execute(root, *words, options=options)
    assert (tmp_path / "out" / "all").read_text() == first, "the action ran a second time"


def test_assets_pushed_through_the_proxy_are_on_the_server(
    bgd: Bgd, server: Server, start_casd: StartCasd, tools: Tools, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"an asset")
    near = start_casd("near", server.http_url)
    digest = digest_message(through(near, bgd).upload("upload-file", source)[str(source)])
    asset = {"uris": ["https://example.org/asset"]}
    proxied, direct = (
        Grpcurl(tools=tools, home=tmp_path / "grpcurl", target=target,
                described=remote_asset_pb2.DESCRIPTOR)
        for target in (near.url, server.address)
    )  # fmt: skip
    proxied.call(f"{ASSET}.Push/PushBlob", {**asset, "blobDigest": digest})
    for grpcurl in (proxied, direct):
        found = grpcurl.call(f"{ASSET}.Fetch/FetchBlob", asset)
        assert found["blobDigest"] == digest, json.dumps(found)
