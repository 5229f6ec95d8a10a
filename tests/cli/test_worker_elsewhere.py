"""`distbuild worker run` for a scheduler without blobs that compares platforms: Buildbarn's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running import BIN

from remote_apis.client.action_cache import ActionCacheClient
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.cli.commands import distbuild
from tests.worker.scripted_queue import ScriptedQueue, serving_queue
from tests.worker.world import Inputs, open_world

ASKED = re_pb.Platform(
    properties=[
        re_pb.Platform.Property(name="OSFamily", value="linux"),
        re_pb.Platform.Property(name="Pool", value="ours"),
    ]
)


@contextmanager
def worker(*options: str) -> Iterator[None]:
    words = ["worker", "run", "--id", "w", "--slots", "1", *options]
    with subprocess.Popen([BIN / "distbuild", *words], stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


async def test_blobs_results_properties_and_instances(tmp_path: Path) -> None:
    queue = ScriptedQueue()
    async with open_world() as world, serving_queue(queue, "127.0.0.1:0") as port:
        root = await world.put_inputs(Inputs(files={"in": b"content"}))
        command = re_pb.Command(arguments=["/bin/sh", "-c", "cat in"])
        digest = await world.put_action(command, root)
        with worker(
            f"--server=grpc://127.0.0.1:{port}", f"--cas={world.url}", "--results=worker",
            "--machine-properties=off", "--property=Pool=ours", "--property=OSFamily=linux",
            "--container-engine=none", f"--cache-dir={tmp_path}", "--instance-prefix=team",
        ):  # fmt: skip
            request = await queue.until("idle")
            assert request.platform == ASKED
            assert request.instance_name_prefix == "team"
            response = await queue.execute(digest)
            assert await world.stdout(response) == "content"
            results = ActionCacheClient(world.channel, instance="team")
            kept = await results.get(digest)
            assert kept is not None and kept.stdout_digest == response.result.stdout_digest


def test_a_wrong_instance_prefix(tmp_path: Path) -> None:
    done = distbuild("worker", "run", "--instance-prefix", "a//b", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "a//b" in done.stderr
