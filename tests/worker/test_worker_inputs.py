"""Input roots: what actions see, whatever actions before them did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.world import Inputs, World, open_world, serving, worker_config

MANY = Inputs(
    files={f"lib/part{n % 3}/deep/f{n}": b"content %d" % n for n in range(60)}
    | {f"flat/f{n}": b"flat %d" % n for n in range(30)}
    | {"top": b"top"},
    executables={"lib/tool": b"#!/bin/sh\necho tool\n"},
    links={"lib/link": "part0/deep/f0", "flat/up": "../top"},
    directories=["lib/empty"],
)
LISTING = (
    "find . ! -type d -printf '%p %y %m %l %s %T@\\n' | sort;"
    "find . -type d -printf '%p %y %m %T@\\n' | sort; find . -type f | sort | xargs sha256sum"
)
VANDALS = {
    "adds a file deep down": "echo x > lib/part1/deep/new",
    "adds a file at the top of a tree": "echo x > flat/new",
    "removes a file": "rm -f lib/part2/deep/f2",
    "replaces a file": "rm -f flat/f1; echo other > flat/f1",
    "renames a file": "mv flat/f1 flat/f2",
    "swaps two files": "mv flat/f1 t; mv flat/f2 flat/f1; mv t flat/f2",
    "replaces a link": "ln -sfn elsewhere lib/link",
    "removes a directory": "rm -rf lib/empty",
    "replaces a directory": "mv lib/part0 x; mkdir lib/part0",
    "swaps two directories": "mv lib/part0 x; mv lib/part1 lib/part0; mv x lib/part1",
    "takes a directory away": "mv lib gone; mkdir lib",
    "locks a directory": "chmod 0 lib/part1; chmod 500 flat",
    "dates a directory": "touch -d 2001-01-01 flat; touch -d 2001-01-01 lib/part1",
    "hides its traces": 'm=$(date -r flat); echo x > flat/new; touch -d "$m" flat',
    "makes and unmakes": "touch flat/n; rm flat/n",
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server without a scheduler, and a worker in bubblewrap."""
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path)),
    ):
        yield world


async def listing(world: World, root: Digest) -> str:
    """What an action sees of an input root."""
    digest = await world.put_action(re_pb.Command(arguments=["/bin/sh", "-c", LISTING]), root)
    response = await world.execute(digest)
    assert response.status.code == 0, response.status
    assert response.result.exit_code == 0
    return await world.stdout(response)


async def vandalise(world: World, root: Digest, script: str) -> re_pb.ExecuteResponse:
    digest = await world.put_action(re_pb.Command(arguments=["/bin/sh", "-c", script]), root)
    return await world.execute(digest)


async def test_what_an_action_sees(world: World) -> None:
    response = await world.run(
        "stat -c '%n %a %Y' a/plain a/tool; readlink link; cat link; ls -A empty; test -w a",
        inputs=Inputs(
            files={"a/plain": b"plain"},
            executables={"a/tool": b""},
            links={"link": "a/../a/plain"},
            directories=["empty"],
        ),
    )
    assert response.result.exit_code == 0
    assert (await world.stdout(response)).splitlines() == [
        "a/plain 444 946684800",
        "a/tool 555 946684800",
        "a/../a/plain",
        "plain",
    ]


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("vandal", VANDALS)
async def test_an_action_leaves_no_trace_for_the_next(
    world: World, vandal: str, rounds: int
) -> None:
    root = await world.put_inputs(MANY)
    before = await listing(world, root)
    for number in range(rounds):
        response = await vandalise(world, root, f"{VANDALS[vandal]}; # {number}")
        assert response.status.code == 0, response.status
    assert await listing(world, root) == before
    part = await world.put_inputs(
        Inputs(files={path: data for path, data in MANY.files.items() if path.startswith("flat")})
    )
    assert (await listing(world, part)).count("flat/f1 f 444") == 1


async def test_unsafe_actions_spoil_no_other(tmp_path: Path) -> None:
    """Without a sandbox an action may write to files that are shared; it is found out."""
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path, sandbox="none")) as worker,
    ):
        root = await world.put_inputs(MANY)
        before = await listing(world, root)
        for number, vandal in enumerate(
            [
                "chmod u+w flat/f1; echo more >> flat/f1",
                "chmod 777 lib/tool",
                "touch lib/part1/deep/f1",
                "chmod u+w flat/f1; echo more >> flat/f1; rm flat/f1",
                "chmod u+w flat/f1; echo more >> flat/f1; rm -rf flat lib",
            ]
        ):
            response = await vandalise(world, root, f"{vandal}; # {number}")
            assert response.status.code == code_pb2.INTERNAL, vandal
            assert "altered" in response.status.message
            assert await listing(world, root) == before
        for number, harmless in enumerate(VANDALS.values()):
            response = await vandalise(world, root, f"{harmless}; # harmless {number}")
            assert response.status.code == 0, (harmless, response.status)
            assert await listing(world, root) == before
        assert len(worker.cache)


async def test_an_input_root_seen_before_is_not_linked_again(tmp_path: Path) -> None:
    queue = ScriptedQueue()
    async with (
        open_world(queue) as world,
        serving(worker_config(world.url, tmp_path)) as worker,
    ):
        root = await world.put_inputs(MANY)
        await listing(world, root)
        assert 90 <= worker.pool.entries < 110
        kept = {path.stat().st_ino for path in (tmp_path / "trees").rglob("f1")}
        first = [path.stat().st_ino for path in (tmp_path / "trees").rglob("*") if path.is_dir()]
        for number in range(3):
            script = f"find . -type d -printf '%i ' # {number}"
            digest = await world.put_action(
                re_pb.Command(arguments=["/bin/sh", "-c", script]), root
            )
            seen = {int(each) for each in (await world.stdout(await world.execute(digest))).split()}
            assert kept
            assert set(first) <= seen


async def test_a_changed_file_costs_only_its_own_directory(tmp_path: Path) -> None:
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path)) as worker,
    ):
        await listing(world, await world.put_inputs(MANY))
        entries = worker.pool.entries
        changed = Inputs(files={**MANY.files, "top": b"changed"}, links=MANY.links)
        text = await listing(world, await world.put_inputs(changed))
        assert "./flat/f3 f 444" in text
        assert worker.pool.entries <= entries + 10


@pytest.mark.row(101)
async def test_links_may_lead_anywhere_inside_the_sandbox(world: World) -> None:
    response = await world.run(
        "cat up; cat absolute > /dev/null; readlink dangling",
        inputs=Inputs(
            files={"a/f": b"f"},
            links={"up": "../build/a/f", "absolute": "/usr/bin/env", "dangling": "../../x"},
        ),
    )
    assert response.result.exit_code == 0
    assert await world.stdout(response) == "f../../x\n"


async def test_node_properties_of_inputs(world: World) -> None:
    content = await world.put(b"#!/bin/sh\n")
    message = re_pb.Directory()
    file = message.files.add(name="f", digest=content.to_message())
    file.node_properties.unix_mode.value = 0o750
    file.node_properties.mtime.FromSeconds(1_000_000_000)
    inner = re_pb.Directory()
    inner.files.add(name="g", digest=content.to_message())
    inner.node_properties.unix_mode.value = 0o711
    inner.node_properties.mtime.FromSeconds(1_100_000_000)
    inner_digest = await world.put(inner.SerializeToString(deterministic=True))
    message.directories.add(name="d", digest=inner_digest.to_message())
    link = message.symlinks.add(name="l", target="f")
    link.node_properties.mtime.FromSeconds(1_200_000_000)
    root = await world.put(message.SerializeToString(deterministic=True))
    script = "stat -c '%n %a %Y' f d d/g; stat -c '%n %Y' l"
    for _ in range(3):
        digest = await world.put_action(re_pb.Command(arguments=["/bin/sh", "-c", script]), root)
        response = await world.execute(digest)
        assert (await world.stdout(response)).splitlines() == [
            "f 750 1000000000",
            "d 711 1100000000",
            "d/g 444 946684800",
            "l 1200000000",
        ]


async def test_outputs_beside_inputs_and_through_links(world: World) -> None:
    response = await world.run(
        "echo 1 > lib/new; echo 2 > out/made; echo 3 > lib/sub/x",
        inputs=Inputs(files={"lib/a": b"a"}, links={"out": "real"}, directories=["real"]),
        output_paths=["lib/new", "lib/sub/x", "out/made"],
    )
    assert response.result.exit_code == 0, await world.stderr(response)
    assert {file.path for file in response.result.output_files} == {
        "lib/new",
        "lib/sub/x",
        "out/made",
    }


async def test_an_action_cannot_have_the_machines_files_uploaded(world: World) -> None:
    for script in (
        "ln -s /etc out",
        "rm -rf out; ln -s ../../../../../../../../etc out",
        "ln -s / x; ln -s x/etc out",
    ):
        response = await world.run(f"rmdir out; {script}", output_paths=["out/passwd"])
        assert response.status.code == code_pb2.FAILED_PRECONDITION, script
        assert not response.result.output_files


async def test_the_pool_and_the_cache_stay_within_their_limits(tmp_path: Path) -> None:
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path, cache_bytes=20_000, pool_entries=100)) as worker,
    ):
        for number in range(6):
            files = {f"d/f{n}": b"%d %d" % (n, number) * 50 for n in range(40)}
            response = await world.run("cat d/f* | wc -c", inputs=Inputs(files=files))
            assert response.status.code == 0
            assert int(await world.stdout(response)) == sum(map(len, files.values()))
            assert worker.cache.size <= 20_000
            assert worker.pool.entries <= 100
    assert not (tmp_path / "slots").exists()
