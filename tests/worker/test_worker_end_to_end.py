"""Actions through a real server, a real worker and the real sandbox."""

from __future__ import annotations

from pathlib import Path

from tests.worker.world import Inputs, open_world, serving, worker_config


async def test_an_action_runs_and_its_outputs_arrive(tmp_path: Path) -> None:
    async with open_world() as world, serving(worker_config(world.url, tmp_path)):
        response = await world.run(
            "cat in/a.txt > out/b.txt; echo said; echo warned > /dev/stderr; id -u; pwd",
            inputs=Inputs(files={"in/a.txt": b"content"}),
            output_paths=["out/b.txt"],
        )
        assert response.status.code == 0, response.status
        assert response.result.exit_code == 0, await world.stderr(response)
        assert await world.stderr(response) == "warned\n"
        assert (await world.stdout(response)).split() == ["said", "60800", "/build"]
        (file,) = response.result.output_files
        assert file.path == "out/b.txt"
        assert await world.read(file.digest) == b"content"
