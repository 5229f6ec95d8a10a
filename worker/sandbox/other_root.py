"""Arguments of bubblewrap for actions that do not see this machine's programs.

They see the input root as `/` where that is a whole file system, or an image with the input root
in its usual place. Programs are looked up, and run, by bubblewrap itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.sandbox.command_line import is_long, write_script
from worker.sandbox.interface import SandboxRequest
from worker.sandbox.system_view import DEVICES

BUILD_PATH = "/build"
"""Where every action on every worker sees its input root: outputs that hold paths stay equal."""
ORDINARY_UID = 1000
_OWN_SCRIPT = ".distbuild-command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where, for the bubblewrap that makes the other root, its parts are.

    `proc` are the arguments that show /proc.
    """

    root: str
    temporary: str
    proc: Sequence[str]
    image: str = ""


def has_other_root(request: SandboxRequest) -> bool:
    """Whether an action does not see this machine's programs."""
    return request.is_file_system or request.image is not None


def other_root(request: SandboxRequest, places: Places) -> list[str]:
    """Everything after the namespaces, the command included. Raises OSError."""
    if request.image is not None:
        user, directory = (
            (request.image.uid, request.image.gid),
            f"{BUILD_PATH}/{request.working_directory}",
        )
        view = _image(request, places)
    else:
        user, directory = (0, 0), f"/{request.working_directory}"
        view = ["--bind", places.root, "/", *places.proc, *DEVICES]
        view += ["--bind", places.temporary, "/tmp"]
    arguments = ["--unshare-user", "--uid", str(user[0]), "--gid", str(user[1])]
    arguments += ["--cap-drop", "ALL", *view]
    for name, value in request.environment.items():
        arguments += ["--setenv", name, value]
    line = request.arguments
    if is_long([*line, *arguments]):
        # In its /tmp, for want of another place outside the input root.
        script = write_script(request.temporary / _OWN_SCRIPT, line)
        line = ("sh", f"/tmp/{script.name}")
    return [*arguments, "--chdir", directory.rstrip("/") or "/", "--", *line]


def _image(request: SandboxRequest, places: Places) -> list[str]:
    arguments = ["--ro-bind", places.image, "/", *places.proc, *DEVICES]
    arguments += ["--bind", places.temporary, "/tmp", "--bind", places.root, BUILD_PATH]
    if request.network and Path("/etc/resolv.conf").exists():
        arguments += ["--ro-bind", "/etc/resolv.conf", "/etc/resolv.conf"]
    return arguments
