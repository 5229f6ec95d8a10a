"""Options of what runs actions, the same for `distbuild serve` and `distbuild worker run`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from server.config.options import (
    Option,
    choice,
    decimal,
    existing_directory,
    positive,
    seconds,
    size,
)


def execution_options() -> list[Option]:
    """The options; `execution_settings` makes a worker's configuration of their values."""
    return [
        Option(name="sandbox", parse=choice("bubblewrap", "none"), default="bubblewrap",
               metavar="bubblewrap|none", help="how actions are kept apart from the machine"),
        Option(name="images", parse=existing_directory, default=None, metavar="DIR",
               help="OCI layouts and tarballs for actions that ask for a container-image"),
        Option(name="container-engine", parse=choice("auto", "docker", "podman", "none"),
               default="auto", metavar="auto|docker|podman|none",
               help="what runs images that have a name; auto: podman or docker, if one works"),
        Option(name="network", parse=choice("off", "on"), default="off", metavar="off|on",
               help="on: actions that ask for the network (dockerNetwork=standard) get it"),
        Option(name="default-timeout", parse=seconds, default=None, metavar="SECONDS",
               help="how long an action may take that does not say so itself"),
        Option(name="limit-memory", parse=size, default=None, metavar="SIZE",
               help="memory of an action"),
        Option(name="limit-processes", parse=positive, default=None, metavar="N",
               help="processes and threads of an action"),
        Option(name="limit-cpus", parse=decimal, default=None, metavar="N",
               help="processors of an action, such as 1.5; needs cgroup v2"),
        Option(name="limit-cpu-seconds", parse=positive, default=None, metavar="SECONDS",
               help="processor time of each process of an action"),
        Option(name="limit-file-size", parse=size, default=None, metavar="SIZE",
               help="the largest file that an action may write"),
    ]  # fmt: skip


def execution_settings(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of `WorkerConfig` that these options set."""
    from worker.config import ResourceLimits

    return {
        "sandbox": parsed.sandbox,
        "images": parsed.images,
        "container_engine": parsed.container_engine,
        "allows_network": parsed.network == "on",
        "default_timeout": parsed.default_timeout,
        "limits": ResourceLimits(
            memory_bytes=parsed.limit_memory,
            processes=parsed.limit_processes,
            cpus=parsed.limit_cpus,
            cpu_seconds=parsed.limit_cpu_seconds,
            file_bytes=parsed.limit_file_size,
        ),
    }


def execution_arguments(parsed: argparse.Namespace) -> list[str]:
    """A command line that says the same as the values do."""
    arguments = []
    for option in execution_options():
        value: str | float | Path | None = getattr(parsed, option.attribute)
        if value is not None:
            arguments += [f"--{option.name}", str(value)]
    return arguments
