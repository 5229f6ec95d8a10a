"""A server with the Remote Asset API, in process, and helpers to talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.asset.v1 import remote_asset_pb2 as ra_pb
from remote_apis.stubs.build.bazel.remote.asset.v1 import remote_asset_pb2_grpc as ra_grpc
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.asset.origins import Origins
from server.asset.service import AssetService
from server.asset.settings import AssetSettings
from server.blobstore.interface import read_all, write_all
from server.blobstore.memory import MemoryBlobStore
from server.db.assets import SqlAssetIndex
from server.db.engine import Database
from server.rpc.handlers import StatusHandlers
from server.rpc.remote_asset import FetchServicer, PushServicer
from server.rpc.terms import Terms

SHA256 = DigestFunction.SHA256
Qualifiers = Mapping[str, str]


class ForgetfulStore(MemoryBlobStore):
    """Loses blobs when told to."""

    def forget(self, digest: Digest) -> None:
        del self._blobs[digest]

    @property
    def count(self) -> int:
        """How many blobs there are."""
        return len(self._blobs)


@dataclass(kw_only=True)
class AssetServer:
    """Everything that a test may want to look at."""

    store: ForgetfulStore
    fetch: Any
    push: Any
    directory: Path

    async def put(self, data: bytes, function: DigestFunction = SHA256) -> Digest:
        """Store a blob."""
        digest = Digest.of(data, function)
        await write_all(self.store, digest, data)
        return digest

    async def put_directory(self, files: Mapping[str, Digest]) -> Digest:
        """Store a Directory of some files."""
        message = re_pb.Directory()
        for name in sorted(files):
            message.files.add(name=name, digest=files[name].to_message())
        return await self.put(message.SerializeToString(deterministic=True))

    async def push_blob(
        self, uris: Sequence[str], digest: Digest, qualifiers: Qualifiers | None = None, **more: Any
    ) -> None:
        request = ra_pb.PushBlobRequest(
            uris=uris, blob_digest=digest.to_message(), qualifiers=to_messages(qualifiers), **more
        )
        await self.push.PushBlob(request)

    async def push_directory(self, uris: Sequence[str], digest: Digest, **more: Any) -> None:
        request = ra_pb.PushDirectoryRequest(
            uris=uris, root_directory_digest=digest.to_message(), **more
        )
        await self.push.PushDirectory(request)

    async def fetch_blob(
        self, *uris: str, qualifiers: Qualifiers | None = None, **more: Any
    ) -> ra_pb.FetchBlobResponse:
        request = ra_pb.FetchBlobRequest(uris=uris, qualifiers=to_messages(qualifiers), **more)
        response: ra_pb.FetchBlobResponse = await self.fetch.FetchBlob(request, timeout=30)
        return response

    async def fetch_directory(
        self, *uris: str, qualifiers: Qualifiers | None = None, **more: Any
    ) -> ra_pb.FetchDirectoryResponse:
        request = ra_pb.FetchDirectoryRequest(uris=uris, qualifiers=to_messages(qualifiers), **more)
        response: ra_pb.FetchDirectoryResponse = await self.fetch.FetchDirectory(
            request, timeout=30
        )
        return response

    async def blob(self, response: ra_pb.FetchBlobResponse) -> bytes:
        """The bytes of a blob that has been fetched."""
        assert response.status.code == 0, response.status
        function = next(f for f in DigestFunction if f.number == response.digest_function)
        return await read_all(self.store, Digest.from_message(response.blob_digest, function))

    async def tree(self, response: ra_pb.FetchDirectoryResponse) -> dict[str, str]:
        """Its files' text (`*` marks executables), links as `-> target`, directories as `/`."""
        assert response.status.code == 0, response.status
        function = next(f for f in DigestFunction if f.number == response.digest_function)
        found: dict[str, str] = {}
        waiting = [("", Digest.from_message(response.root_directory_digest, function))]
        while waiting:
            prefix, digest = waiting.pop()
            directory = re_pb.Directory.FromString(await read_all(self.store, digest))
            for file in directory.files:
                data = await read_all(self.store, Digest.from_message(file.digest, function))
                mark = "*" if file.is_executable else ""
                found[prefix + file.name + mark] = data.decode()
            for link in directory.symlinks:
                found[prefix + link.name] = f"-> {link.target}"
            for child in directory.directories:
                found[prefix + child.name] = "/"
                below = Digest.from_message(child.digest, function)
                waiting.append((f"{prefix}{child.name}/", below))
        return found


def to_messages(qualifiers: Qualifiers | None) -> list[ra_pb.Qualifier]:
    return [ra_pb.Qualifier(name=n, value=v) for n, v in (qualifiers or {}).items()]


@asynccontextmanager
async def asset_server(
    path: Path, *, fetching: bool = True, **settings: Any
) -> AsyncIterator[AssetServer]:
    """Run one; the settings are AssetSettings' fields, and loopback is allowed by default."""
    limits = AssetSettings(**{"allow_private_addresses": True, **settings})
    async with AsyncExitStack() as stack:
        database = await Database.open(path / "db.sqlite")
        stack.push_async_callback(database.close)
        index = SqlAssetIndex(database)
        await index.prepare()
        store = ForgetfulStore()
        origins = None
        if fetching:
            origins = Origins(store=store, directory=path / "under-way", settings=limits)
            stack.callback(origins.close)
        assets = AssetService(index=index, store=store, origins=origins, settings=limits)
        methods = StatusHandlers()
        terms = Terms()
        ra_grpc.add_FetchServicer_to_server(FetchServicer(assets=assets, terms=terms), methods)
        ra_grpc.add_PushServicer_to_server(PushServicer(assets=assets, terms=terms), methods)
        server = methods.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        stack.push_async_callback(channel.close)
        yield AssetServer(
            store=store,
            fetch=ra_grpc.FetchStub(channel),
            push=ra_grpc.PushStub(channel),
            directory=path / "under-way",
        )
