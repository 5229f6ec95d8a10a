"""What Execute refuses, and how."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.rpc.execution_checks import ExecutionLimits
from server.scheduler.settings import SchedulerSettings
from tests.rpc.execution_server import (
    SHA256,
    ExecutionServer,
    ScriptedWorker,
    execution_server,
    response_of,
)

Command = re_pb.Command
Directory = re_pb.Directory


async def refusal(server: ExecutionServer, digest: Digest, **options: object) -> status_pb2.Status:
    """The gRPC status of an Execute that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.outcome(digest, **options)
    error = caught.value
    status = status_pb2.Status(code=error.code().value[0], message=error.details() or "")
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            status.ParseFromString(value)
    return status


def missing(status: status_pb2.Status) -> list[str]:
    """The subjects of the MISSING violations."""
    failure = error_details_pb2.PreconditionFailure()
    assert status.details[0].Unpack(failure)
    assert {violation.type for violation in failure.violations} == {"MISSING"}
    return [violation.subject for violation in failure.violations]


@pytest.mark.row(75)
async def test_a_missing_action_is_named() -> None:
    async with execution_server() as server:
        digest = Digest.of(b"no action", SHA256)
        status = await refusal(server, digest)
        assert status.code == code_pb2.FAILED_PRECONDITION
        assert missing(status) == [f"blobs/{digest.hash}/{digest.size}"]


@pytest.mark.row(74)
@pytest.mark.row(75)
@pytest.mark.parametrize("function", [DigestFunction.SHA256, DigestFunction.BLAKE3])
async def test_everything_that_is_missing_is_named_at_once(function: DigestFunction) -> None:
    async with execution_server() as server:
        absent = [Digest.of(b"absent %d" % n, function) for n in range(4)]
        present = await server.put(b"present", function)
        below = Directory(
            files=[
                re_pb.FileNode(name="absent", digest=absent[0].to_message()),
                re_pb.FileNode(name="present", digest=present.to_message()),
            ]
        )
        below_digest = await server.put(below.SerializeToString(), function)
        root = Directory(
            files=[
                re_pb.FileNode(name="a", digest=absent[1].to_message()),
                re_pb.FileNode(name="b", digest=absent[1].to_message()),
            ],
            directories=[
                re_pb.DirectoryNode(name="below", digest=below_digest.to_message()),
                re_pb.DirectoryNode(name="gone", digest=absent[2].to_message()),
                re_pb.DirectoryNode(name="too", digest=below_digest.to_message()),
            ],
        )
        root_digest = await server.put(root.SerializeToString(), function)
        action = re_pb.Action(
            command_digest=absent[3].to_message(), input_root_digest=root_digest.to_message()
        )
        digest = await server.put(action.SerializeToString(), function)
        status = await refusal(server, digest)
        assert status.code == code_pb2.FAILED_PRECONDITION
        infix = "" if function is SHA256 else "blake3/"
        expected = {f"blobs/{infix}{each.hash}/{each.size}" for each in absent}
        subjects = missing(status)
        assert len(subjects) == 4
        assert set(subjects) == expected


@pytest.mark.row(69)
@pytest.mark.row(75)
async def test_more_than_fits_into_a_status_comes_in_the_response() -> None:
    async with execution_server() as server:
        absent = [Digest.of(b"absent %d" % n, SHA256) for n in range(3000)]
        root = Directory()
        for number, each in enumerate(absent):
            root.files.add(name=f"{number:05}", digest=each.to_message())
        digest = await server.put_action(root=root)
        operations = [operation async for operation in server.execute(digest)]
        response = response_of(operations[-1])
        assert response.status.code == code_pb2.FAILED_PRECONDITION
        assert len(missing(response.status)) == 3000
        assert not response.HasField("result")


@pytest.mark.row(8)
async def test_the_empty_blob_is_never_missing() -> None:
    async with execution_server() as server:
        empty = Digest.of(b"", SHA256)
        root = Directory(files=[re_pb.FileNode(name="empty", digest=empty.to_message())])
        call = aiter(server.execute(await server.put_action(root=root)))
        assert not (await anext(call)).done


@pytest.mark.row(2)
async def test_a_digest_with_a_wrong_size_names_another_blob() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        wrong = Digest(SHA256, digest.hash, digest.size + 1)
        assert (await refusal(server, wrong)).code == code_pb2.FAILED_PRECONDITION


@pytest.mark.parametrize("hash_", ["", "abc", "Z" * 64, "../" * 20])
async def test_a_malformed_digest_is_an_invalid_argument(hash_: str) -> None:
    async with execution_server() as server:
        request = re_pb.ExecuteRequest(action_digest=re_pb.Digest(hash=hash_, size_bytes=1))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await anext(aiter(server.execution.Execute(request)))
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_blobs_that_are_no_messages_are_invalid_arguments() -> None:
    async with execution_server() as server:
        junk = await server.put(b"\xff\xff\xff")
        assert (await refusal(server, junk)).code == code_pb2.INVALID_ARGUMENT
        good = await server.put_action()
        action = re_pb.Action.FromString(
            b"".join([chunk async for chunk in server.store.open_read(good)])
        )
        for field in ("command_digest", "input_root_digest"):
            broken = re_pb.Action()
            broken.CopyFrom(action)
            getattr(broken, field).CopyFrom(junk.to_message())
            digest = await server.put(broken.SerializeToString())
            assert (await refusal(server, digest)).code == code_pb2.INVALID_ARGUMENT


def _file(name: str) -> re_pb.FileNode:
    return re_pb.FileNode(name=name, digest=Digest.of(b"", SHA256).to_message())


def _link(name: str, target: str = "x") -> re_pb.SymlinkNode:
    return re_pb.SymlinkNode(name=name, target=target)


@pytest.mark.row(4)
@pytest.mark.row(5)
@pytest.mark.row(74)
@pytest.mark.parametrize(
    "root",
    [
        Directory(files=[_file("a/b")]),
        Directory(files=[_file("..")]),
        Directory(files=[_file("")]),
        Directory(files=[_file("b"), _file("a")]),
        Directory(files=[_file("a"), _file("a")]),
        Directory(files=[_file("a")], symlinks=[_link("a")]),
        Directory(symlinks=[_link("b"), _link("a")]),
    ],
    ids=lambda root: str(root).replace("\n", " ")[:40],
)
async def test_a_directory_that_is_not_canonical_is_refused(root: re_pb.Directory) -> None:
    async with execution_server() as server:
        status = await refusal(server, await server.put_action(root=root))
        assert status.code == code_pb2.INVALID_ARGUMENT
        assert "input directory" in status.message


@pytest.mark.row(100)
@pytest.mark.row(101)
async def test_absolute_symlinks_are_refused_only_where_they_are_disallowed() -> None:
    absolute = Directory(symlinks=[_link("a", "/etc/passwd")])
    upwards = Directory(symlinks=[_link("a", "../../b/../c")])
    async with execution_server() as server:
        for root in (absolute, upwards):
            call = aiter(server.execute(await server.put_action(root=root)))
            assert not (await anext(call)).done
    strict = ExecutionLimits(allow_absolute_symlinks=False)
    async with execution_server(limits=strict) as server:
        status = await refusal(server, await server.put_action(root=absolute))
        assert status.code == code_pb2.INVALID_ARGUMENT
        call = aiter(server.execute(await server.put_action(root=upwards)))
        assert not (await anext(call)).done


@pytest.mark.row(88)
@pytest.mark.row(89)
@pytest.mark.row(90)
@pytest.mark.row(99)
@pytest.mark.parametrize(
    "command",
    [
        Command(),
        Command(arguments=[""]),
        Command(arguments=["true"], output_paths=["/absolute"]),
        Command(arguments=["true"], output_paths=["trailing/"]),
        Command(arguments=["true"], output_files=["/absolute"]),
        Command(arguments=["true"], output_directories=["trailing/"]),
        Command(arguments=["true"], output_paths=["../outside"]),
        Command(arguments=["true"], working_directory="/absolute"),
        Command(arguments=["true"], working_directory="a/../../b"),
        Command(arguments=["true"], working_directory="not/there"),
        Command(arguments=["true"], output_node_properties=["colour"]),
        Command(
            arguments=["true"],
            environment_variables=[Command.EnvironmentVariable(name="A=B", value="")],
        ),
    ],
    ids=lambda command: str(command).replace("\n", " ")[:60],
)
async def test_a_command_that_cannot_run_is_refused(command: re_pb.Command) -> None:
    async with execution_server() as server:
        status = await refusal(server, await server.put_action(command=command))
        assert status.code == code_pb2.INVALID_ARGUMENT


@pytest.mark.row(7)
@pytest.mark.row(90)
@pytest.mark.parametrize(
    "command",
    [
        Command(arguments=["true"], output_paths=["b", "a", "a"]),
        Command(arguments=["true"], output_paths=[""]),
        Command(arguments=["true"], output_paths=["out"], output_files=["/ignored"]),
        Command(arguments=["true"], output_node_properties=["mtime"]),
        Command(
            arguments=["true"],
            environment_variables=[
                Command.EnvironmentVariable(name=name, value="") for name in "ba"
            ],
        ),
    ],
    ids=lambda command: str(command).replace("\n", " ")[:60],
)
async def test_what_is_odd_but_clear_is_run(command: re_pb.Command) -> None:
    async with execution_server() as server:
        call = aiter(server.execute(await server.put_action(command=command)))
        assert not (await anext(call)).done


@pytest.mark.row(89)
async def test_a_working_directory_that_is_there_is_accepted() -> None:
    async with execution_server() as server:
        inner = await server.put(Directory(symlinks=[_link("link", "..")]).SerializeToString())
        root = Directory(directories=[re_pb.DirectoryNode(name="a", digest=inner.to_message())])
        for path, output in (("a", "../out"), ("a/link/b", "out")):
            command = Command(arguments=["true"], working_directory=path, output_paths=[output])
            call = aiter(server.execute(await server.put_action(command=command, root=root)))
            assert not (await anext(call)).done


@pytest.mark.row(86)
async def test_timeouts_are_bounded_and_imposed() -> None:
    limits = ExecutionLimits(max_timeout=100, default_timeout=60)
    async with execution_server(limits=limits) as server:
        for seconds, allowed in ((101, False), (-1, False), (100, True)):
            action = re_pb.Action()
            action.timeout.seconds = seconds
            digest = await server.put_action(action=action)
            if allowed:
                await anext(aiter(server.execute(digest)))
            else:
                assert (await refusal(server, digest)).code == code_pb2.INVALID_ARGUMENT
        await anext(aiter(server.execute(await server.put_action())))
        worker = ScriptedWorker(server)
        timeouts = []
        for _ in range(2):
            work = await worker.take()
            timeouts.append(work.action.timeout.seconds)
            await worker.completed(work)
        assert timeouts == [100, 60]


@pytest.mark.row(74)
@pytest.mark.row(87)
async def test_platform_properties_decide() -> None:
    settings = SchedulerSettings(no_worker_grace=0.0)
    linux = (("OSFamily", "linux"), ("gpu", "1"))
    async with execution_server(settings=settings) as server:
        worker = ScriptedWorker(server, platform=linux)
        await worker.idle(prefers_idle=True)
        cases = (
            ((("OSFamily", "linux"),), None),
            ((("OSFamily", "linux"), ("gpu", "1")), None),
            ((("OSFamily", "linux"), ("dockerNetwork", "off")), None),
            ((("OSFamily", "windows"),), code_pb2.FAILED_PRECONDITION),
            ((("gpu", "2"),), code_pb2.FAILED_PRECONDITION),
            ((("colour", "red"),), code_pb2.INVALID_ARGUMENT),
        )
        for platform, expected in cases:
            digest = await server.put_action(platform=platform)
            if expected is None:
                assert not (await anext(aiter(server.execute(digest)))).done
            else:
                status = await refusal(server, digest)
                assert status.code == expected
                assert platform[0][0] in status.message


@pytest.mark.row(87)
async def test_the_actions_platform_is_preferred_to_the_commands() -> None:
    settings = SchedulerSettings(no_worker_grace=0.0)
    command = Command(arguments=["true"])
    command.platform.properties.add(name="Pool", value="b")
    async with execution_server(settings=settings) as server:
        await ScriptedWorker(server, platform=[("Pool", "a")]).idle(prefers_idle=True)
        status = await refusal(server, await server.put_action(command=command))
        assert status.code == code_pb2.FAILED_PRECONDITION
        both = await server.put_action(command=command, platform=[("Pool", "a")])
        assert not (await anext(aiter(server.execute(both)))).done


async def test_bounds_of_input_roots() -> None:
    limits = ExecutionLimits(max_depth=5, max_directories=20)
    async with execution_server(limits=limits) as server:
        deep = Directory()
        for _ in range(7):
            below = await server.put(deep.SerializeToString())
            deep = Directory(directories=[re_pb.DirectoryNode(name="d", digest=below.to_message())])
        assert "deep" in (await refusal(server, await server.put_action(root=deep))).message
        wide = Directory()
        for number in range(25):
            child = Directory(symlinks=[_link(str(number))])
            digest = await server.put(child.SerializeToString())
            wide.directories.add(name=f"{number:02}", digest=digest.to_message())
        assert "more than 20" in (await refusal(server, await server.put_action(root=wide))).message


async def test_a_tree_with_exponentially_many_paths_is_walked_once_a_directory() -> None:
    async with execution_server() as server:
        node = Directory()
        for _ in range(60):  # 2 to the power of 60 paths
            digest = await server.put(node.SerializeToString())
            node = Directory(
                directories=[
                    re_pb.DirectoryNode(name=name, digest=digest.to_message()) for name in "ab"
                ]
            )
        call = aiter(server.execute(await server.put_action(root=node)))
        assert not (await anext(call)).done


async def test_an_unknown_instance_name_is_refused() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        for name in ("a//b", "blobs", "a/operations"):
            status = await refusal(server, digest, instance_name=name)
            assert status.code == code_pb2.INVALID_ARGUMENT
