"""Certificates are checked, and an https URI never ends up at a plain one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import code_pb2
from web_origin import WebOrigin, web_origin

from tests.asset.asset_world import asset_server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Certificate and key for the name localhost, in one file."""
    path = tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost",
         "-keyout", tmp_path / "key.pem", "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + (tmp_path / "key.pem").read_text())
    return path


@pytest.fixture
def tls(certificate: Path, tmp_path: Path) -> Iterator[WebOrigin]:
    with web_origin(tmp_path / "repositories", certificate=certificate) as origin:
        yield origin


async def test_a_trusted_certificate_for_the_name_is_needed(
    tls: WebOrigin, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls.put("/file", b"content")
    named, other = tls.url("/file", "localhost"), tls.url("/file")
    (tmp_path / "a").mkdir()
    async with asset_server(tmp_path / "a") as assets:
        assert (await assets.fetch_blob(named)).status.code == code_pb2.ABORTED
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    (tmp_path / "b").mkdir()
    async with asset_server(tmp_path / "b") as assets:
        assert await assets.blob(await assets.fetch_blob(named)) == b"content"
        assert (await assets.fetch_blob(other)).status.code == code_pb2.ABORTED
    assert tls.paths == ["/file"]


async def test_no_redirect_leads_from_https_to_http(
    tls: WebOrigin, web: WebOrigin, certificate: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls.put_redirect("/file", web.put("/file", b"content"))
    async with asset_server(tmp_path) as assets:
        response = await assets.fetch_blob(tls.url("/file", "localhost"))
    assert response.status.code == code_pb2.PERMISSION_DENIED
    assert web.paths == []


async def test_git_over_https(
    tls: WebOrigin, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tls.put_repository("project.git")
    repository.commit({"file": b"1"})
    url = repository.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with asset_server(tmp_path) as assets:
        assert await assets.tree(await assets.fetch_directory("git+" + url)) == {"file": "1"}
