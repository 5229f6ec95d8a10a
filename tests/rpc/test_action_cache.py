"""GetActionResult and UpdateActionResult."""

import random
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import read_all, write_all

SHA256 = DigestFunction.SHA256
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ABSENT = Digest.of(b"absent", SHA256).to_message()


async def put(storage: Any, blob: Any, function: DigestFunction = SHA256) -> re_pb.Digest:
    data = blob if isinstance(blob, bytes) else blob.SerializeToString()
    digest = Digest.of(data, function)
    await write_all(storage.store, digest, data)
    return digest.to_message()


async def an_action(
    storage: Any, *, salt: bytes = b"", function: DigestFunction = SHA256
) -> re_pb.Digest:
    command = await put(storage, re_pb.Command(arguments=["true"]), function)
    root = Digest.of(b"", function).to_message()
    action = re_pb.Action(command_digest=command, input_root_digest=root, salt=salt)
    return await put(storage, action, function)


async def update(
    storage: Any, action: re_pb.Digest, result: re_pb.ActionResult, **fields: Any
) -> re_pb.ActionResult:
    request = re_pb.UpdateActionResultRequest(action_digest=action, action_result=result, **fields)
    response: re_pb.ActionResult = await storage.cache.UpdateActionResult(request)
    return response


async def get(storage: Any, action: re_pb.Digest, **fields: Any) -> re_pb.ActionResult:
    request = re_pb.GetActionResultRequest(action_digest=action, **fields)
    response: re_pb.ActionResult = await storage.cache.GetActionResult(request)
    return response


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.details()
    code: grpc.StatusCode = caught.value.code()
    return code


async def a_result(storage: Any) -> re_pb.ActionResult:
    tree = re_pb.Tree(root=re_pb.Directory())
    tree.root.files.add(name="in_tree", digest=await put(storage, b"in the tree"))
    result = re_pb.ActionResult(exit_code=0)
    result.output_files.add(path="out/a.o", digest=await put(storage, b"object"))
    result.output_directories.add(path="out/dir", tree_digest=await put(storage, tree))
    result.output_symlinks.add(path="out/link", target="../a.o")
    result.stdout_digest.CopyFrom(await put(storage, b"to stdout"))
    result.stderr_digest.CopyFrom(await put(storage, b"to stderr"))
    result.execution_metadata.worker = "somewhere"
    return result


@pytest.mark.row(63)
@pytest.mark.parametrize("function", DigestFunction, ids=lambda function: function.label)
async def test_an_unknown_action(storage: Any, function: DigestFunction) -> None:
    digest = Digest.of(b"unknown", function).to_message()
    call = get(storage, digest, digest_function=function.number)
    assert await code_of(call) is NOT_FOUND


async def test_what_was_stored_comes_back(storage: Any) -> None:
    action, result = await an_action(storage), await a_result(storage)
    assert await update(storage, action, result) == result
    assert await get(storage, action) == result
    result.exit_code = 3
    await update(storage, action, result)
    assert (await get(storage, action)).exit_code == 3


@pytest.mark.parametrize(
    "function", [DigestFunction.BLAKE3, DigestFunction.SHA1, DigestFunction.GITSHA1]
)
async def test_other_digest_functions(storage: Any, function: DigestFunction) -> None:
    action = await an_action(storage, function=function)
    result = re_pb.ActionResult()
    result.output_files.add(path="o", digest=await put(storage, b"object", function))
    await update(storage, action, result, digest_function=function.number)
    assert await get(storage, action, digest_function=function.number) == result
    if function is not DigestFunction.SHA1:
        assert await code_of(get(storage, action)) is NOT_FOUND


async def test_instances_share_no_results(storage: Any) -> None:
    action = await an_action(storage)
    await update(storage, action, re_pb.ActionResult(exit_code=1), instance_name="a")
    await update(storage, action, re_pb.ActionResult(exit_code=2), instance_name="a/b")
    assert (await get(storage, action, instance_name="a")).exit_code == 1
    assert (await get(storage, action, instance_name="a/b")).exit_code == 2
    assert await code_of(get(storage, action)) is NOT_FOUND


async def test_results_survive_a_restart(serve: Any) -> None:
    first = await serve()
    action, result = await an_action(first), await a_result(first)
    await update(first, action, result)
    await first.store.close()
    second = await serve()
    assert await get(second, action) == result


@pytest.mark.row(64)
@pytest.mark.parametrize("lost", [b"object", b"in the tree", b"to stdout", b"to stderr", None])
async def test_a_result_without_all_its_blobs_is_none(storage: Any, lost: bytes | None) -> None:
    action, result = await an_action(storage), await a_result(storage)
    await update(storage, action, result)
    digest = Digest.from_message(result.output_directories[0].tree_digest, SHA256)
    if lost is not None:
        digest = Digest.of(lost, SHA256)
    data = await read_all(storage.store, digest)
    await storage.store.remove([digest])
    assert await code_of(get(storage, action)) is NOT_FOUND
    await write_all(storage.store, digest, data)
    assert await get(storage, action) == result


@pytest.mark.row(64)
@pytest.mark.parametrize("lost", ["root", "below", "file"])
async def test_completeness_of_directories(storage: Any, lost: str) -> None:
    below = re_pb.Directory()
    file = await put(storage, b"file")
    below.files.add(name="f", digest=file)
    root = re_pb.Directory()
    below_digest = await put(storage, below)
    root.directories.add(name="d", digest=below_digest)
    root.directories.add(name="e", digest=below_digest)
    root_digest = await put(storage, root)
    result = re_pb.ActionResult()
    result.output_directories.add(path="out", root_directory_digest=root_digest)
    action = await an_action(storage)
    await update(storage, action, result)
    assert await get(storage, action) == result
    digest = {"root": root_digest, "below": below_digest, "file": file}[lost]
    await storage.store.remove([Digest.from_message(digest, SHA256)])
    assert await code_of(get(storage, action)) is NOT_FOUND


@pytest.mark.row(64)
async def test_a_result_extends_its_blobs_lifetimes(storage: Any) -> None:
    action, result = await an_action(storage), await a_result(storage)
    await update(storage, action, result)
    later = await put(storage, b"written later")
    await get(storage, action)
    order = [digest for digest, _, _ in storage.store.uses()]
    position = order.index(Digest.from_message(later, SHA256))
    for data in (b"object", b"in the tree", b"to stdout", b"to stderr"):
        assert order.index(Digest.of(data, SHA256)) > position


@pytest.mark.row(66)
async def test_nothing_is_inlined_without_a_wish(storage: Any) -> None:
    action, result = await an_action(storage), await a_result(storage)
    result.stdout_raw = b"to stdout"
    result.output_files[0].contents = b"object"
    await update(storage, action, result)
    found = await get(storage, action)
    assert (found.stdout_raw, found.stderr_raw) == (b"", b"")
    assert found.output_files[0].contents == b""
    assert found.stdout_digest.size_bytes == len(b"to stdout")


@pytest.mark.row(66)
@pytest.mark.row(67)
async def test_what_is_wished_for_is_inlined(storage: Any) -> None:
    action, result = await an_action(storage), await a_result(storage)
    result.output_files.add(path="out/a", digest=await put(storage, b"other"))
    await update(storage, action, result)
    found = await get(
        storage,
        action,
        inline_stdout=True,
        inline_stderr=True,
        inline_output_files=["out/a", "out", "a.o", "out/a.o/", "nothing"],
    )
    assert (found.stdout_raw, found.stderr_raw) == (b"to stdout", b"to stderr")
    assert [file.contents for file in found.output_files] == [b"", b"other"]
    found = await get(storage, action, inline_output_files=["out/a.o"])
    assert [file.contents for file in found.output_files] == [b"object", b""]


@pytest.mark.row(66)
async def test_what_is_too_big_is_not_inlined(storage: Any) -> None:
    action, result = await an_action(storage), await a_result(storage)
    big = random.Random(0).randbytes(2_000_000)
    result.stdout_digest.CopyFrom(await put(storage, big))
    result.stderr_digest.CopyFrom(await put(storage, big))
    await update(storage, action, result)
    found = await get(storage, action, inline_stdout=True, inline_stderr=True)
    assert found.ByteSize() < 4 * 1024 * 1024
    assert [len(found.stdout_raw), len(found.stderr_raw)] == [2_000_000, 0]


@pytest.mark.row(65)
async def test_inlined_bytes_become_blobs(storage: Any) -> None:
    action = await an_action(storage)
    result = re_pb.ActionResult(stdout_raw=b"only inlined", stderr_raw=b"this too")
    contents = Digest.of(b"new contents", SHA256).to_message()
    result.output_files.add(path="o", digest=contents, contents=b"new contents")
    stored = await update(storage, action, result)
    assert stored.stdout_digest == Digest.of(b"only inlined", SHA256).to_message()
    found = await get(storage, action, inline_stdout=True, inline_output_files=["o"])
    assert found.stdout_raw == b"only inlined"
    assert found.stderr_digest == Digest.of(b"this too", SHA256).to_message()
    assert found.output_files[0].contents == b"new contents"


def result_with(**fields: Any) -> re_pb.ActionResult:
    return re_pb.ActionResult(**fields)


FILE = re_pb.OutputFile
LINK = re_pb.OutputSymlink
DIRECTORY = re_pb.OutputDirectory
GOOD = Digest.of(b"", SHA256).to_message()
BAD = re_pb.Digest(hash="ABC", size_bytes=1)


@pytest.mark.row(65)
@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (result_with(output_files=[FILE(path="", digest=GOOD)]), "output path"),
        (result_with(output_files=[FILE(path="/abs", digest=GOOD)]), "output path"),
        (result_with(output_files=[FILE(path="a/../b", digest=GOOD)]), "output path"),
        (result_with(output_files=[FILE(path="a//b", digest=GOOD)]), "output path"),
        (result_with(output_files=[FILE(path="a/", digest=GOOD)]), "output path"),
        (result_with(output_files=[FILE(path="a\0", digest=GOOD)]), "output path"),
        (result_with(output_files=[FILE(path="a")]), "'a'"),
        (result_with(output_files=[FILE(path="a", digest=BAD)]), "'a'"),
        (result_with(output_files=[FILE(path="a", digest=GOOD)] * 2), "twice"),
        (result_with(output_files=[FILE(path="a", digest=GOOD, contents=b"x")]), "inlined"),
        (result_with(output_directories=[DIRECTORY(path="a")]), "'a'"),
        (result_with(output_directories=[DIRECTORY(path="..", tree_digest=GOOD)]), "path"),
        (result_with(output_directories=[DIRECTORY(path="a", tree_digest=BAD)]), "'a'"),
        (result_with(output_symlinks=[LINK(path="a")]), "target"),
        (result_with(output_symlinks=[LINK(path="../a", target="b")]), "path"),
        (result_with(output_file_symlinks=[LINK(path="a")]), "target"),
        (result_with(stdout_digest=BAD), "stdout"),
        (result_with(stdout_digest=GOOD, stdout_raw=b"x"), "stdout"),
        (result_with(stderr_digest=re_pb.Digest(hash=GOOD.hash, size_bytes=1)), "stderr"),
    ],
)
async def test_malformed_results(storage: Any, result: Any, complaint: str) -> None:
    action = await an_action(storage)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(storage, action, result)
    assert caught.value.code() is INVALID
    assert complaint in (caught.value.details() or "")
    assert await code_of(get(storage, action)) is NOT_FOUND


@pytest.mark.row(95)
async def test_the_path_of_an_output_directory_may_be_empty(storage: Any) -> None:
    action = await an_action(storage)
    tree = await put(storage, re_pb.Tree(root=re_pb.Directory()))
    result = result_with(output_directories=[DIRECTORY(path="", tree_digest=tree)])
    await update(storage, action, result)
    assert await get(storage, action) == result


async def test_legacy_symlinks_may_repeat_the_new_ones(storage: Any) -> None:
    links = [LINK(path="a", target="b")]
    action = await an_action(storage)
    result = result_with(output_symlinks=links, output_file_symlinks=links)
    await update(storage, action, result)
    assert await get(storage, action) == result


@pytest.mark.row(65)
async def test_the_action_and_its_command_must_be_there(storage: Any) -> None:
    command = Digest.of(b"no such command", SHA256).to_message()
    action = await put(storage, re_pb.Action(command_digest=command))
    for asked, missing in ((ABSENT, ABSENT), (action, command)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await update(storage, asked, re_pb.ActionResult())
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        trailers = dict(caught.value.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        failure = error_details_pb2.PreconditionFailure()
        assert status.details[0].Unpack(failure)
        (violation,) = failure.violations
        assert violation.type == "MISSING"
        assert violation.subject == f"blobs/{missing.hash}/{missing.size_bytes}"


async def test_the_action_need_not_be_there_if_so_configured(serve: Any) -> None:
    storage = await serve(requires_action=False)
    await update(storage, ABSENT, re_pb.ActionResult(exit_code=5))
    assert (await get(storage, ABSENT)).exit_code == 5


@pytest.mark.row(65)
async def test_what_is_no_action(storage: Any) -> None:
    no_action = await put(storage, b"\xff\xff\xff")
    assert await code_of(update(storage, no_action, re_pb.ActionResult())) is INVALID
    no_command = await put(storage, re_pb.Action())
    assert await code_of(update(storage, no_command, re_pb.ActionResult())) is INVALID


@pytest.mark.row(65)
async def test_updates_may_be_forbidden(serve: Any) -> None:
    storage = await serve(update_enabled=False)
    action = await an_action(storage)
    call = update(storage, action, re_pb.ActionResult())
    assert await code_of(call) is grpc.StatusCode.PERMISSION_DENIED
    assert await code_of(get(storage, action)) is NOT_FOUND


@pytest.mark.row(1)
@pytest.mark.row(26)
async def test_bad_requests(storage: Any) -> None:
    action = await an_action(storage)
    result = re_pb.ActionResult()
    wrong_size = re_pb.Digest(hash=action.hash, size_bytes=-1)
    for digest, fields in (
        (BAD, {}),
        (re_pb.Digest(), {}),
        (wrong_size, {}),
        (action, {"instance_name": "a/blobs"}),
        (action, {"digest_function": 4}),
        (action, {"digest_function": DigestFunction.SHA1.number}),
    ):
        assert await code_of(get(storage, digest, **fields)) is INVALID
        assert await code_of(update(storage, digest, result, **fields)) is INVALID
    request = re_pb.UpdateActionResultRequest(action_digest=action)
    assert await code_of(storage.cache.UpdateActionResult(request)) is INVALID


@pytest.mark.row(2)
async def test_the_size_is_part_of_the_key(storage: Any) -> None:
    action = await an_action(storage)
    await update(storage, action, re_pb.ActionResult())
    other = re_pb.Digest(hash=action.hash, size_bytes=action.size_bytes + 1)
    assert await code_of(get(storage, other)) is NOT_FOUND


async def test_a_malformed_tree_makes_the_result_unusable(storage: Any) -> None:
    action = await an_action(storage)
    for tree in (b"\xff\xff\xff", b"\x0a\x05abc", b"\x0a" + b"\xff" * 9, b"\x1a\x00"):
        digest = await put(storage, tree)
        result = result_with(output_directories=[DIRECTORY(path="a", tree_digest=digest)])
        await update(storage, action, result)
        assert await code_of(get(storage, action)) is NOT_FOUND
