"""A program that takes docker's place: it runs containers by bubblewrap, strictly as it is told.

Run as `fake_engine.py STATE KIND ARGUMENTS…`. An option that docker does not have, or that this
does not know, is an error. In STATE: `images` by name and `registry` from which `pull` takes them,
each a JSON of root and env; `containers`; `calls`, a log; `broken`, which makes every call fail.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn


def fail(message: str, code: int = 1) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(code)


def key(name: str) -> str:
    return name.replace("/", "%")


def read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        fail(f"No such object: {path.name}")


def image_id(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


class Engine:
    def __init__(self, state: Path, kind: str) -> None:
        self.state = state
        self.kind = kind
        for name in ("images", "registry", "containers"):
            (state / name).mkdir(exist_ok=True)

    def info(self, arguments: list[str]) -> None:
        assert arguments == ["--format", "{{json .}}"]
        if (self.state / "down").exists():
            print(json.dumps({"ServerVersion": "", "SecurityOptions": None}))
            fail("Cannot connect to the Docker daemon")
        rootless = (self.state / "rootless").exists()
        if self.kind == "podman":
            print(json.dumps({"host": {"security": {"rootless": rootless}}}))
        else:
            options = ["name=seccomp", *(["name=rootless"] if rootless else [])]
            print(json.dumps({"ServerVersion": "28", "SecurityOptions": options}))

    def image(self, arguments: list[str]) -> None:
        assert arguments[:3] == ["inspect", "--format", "{{.Id}}"]
        print(image_id(self.find_image(arguments[3])))

    def find_image(self, name: str) -> Path:
        for path in (self.state / "images").iterdir():
            if path.name == key(name) or image_id(path) == name:
                return path
        fail(f"No such image: {name}")

    def pull(self, arguments: list[str]) -> None:
        quiet, name = arguments
        assert quiet == "--quiet"
        time.sleep(0.2)
        source = self.state / "registry" / key(name)
        if not source.exists():
            fail(f"manifest for {name} not found: manifest unknown")
        (self.state / "images" / key(name)).write_bytes(source.read_bytes())

    def create(self, arguments: list[str]) -> None:
        parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
        for name in ("name", "label", "pull", "hostname", "log-driver", "user", "network",
                     "workdir", "entrypoint", "memory", "memory-swap", "pids-limit", "cpus",
                     "userns", "cap-drop"):  # fmt: skip
            parser.add_argument(f"--{name}")
        for name in ("env", "mount", "security-opt", "ulimit"):
            parser.add_argument(f"--{name}", action="append", default=[])
        parser.add_argument("--read-only", action="store_true")
        parser.add_argument("image")
        parser.add_argument("arguments", nargs=argparse.REMAINDER)
        container = vars(parser.parse_args(arguments))
        container["image"] = str(self.find_image(container["image"]))
        container["State"] = {"Status": "created", "ExitCode": 0, "OOMKilled": False}
        self.write(container["name"], container)
        print(container["name"])

    def write(self, name: str, container: dict[str, Any]) -> None:
        path = self.state / "containers" / name
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(container))
        fresh.rename(path)

    def start(self, arguments: list[str]) -> None:
        attach, name = arguments
        assert attach == "--attach"
        container = read(self.state / "containers" / name)
        uid, gid = (int(part) for part in container["user"].split(":"))
        reading, writing = os.pipe()
        become: dict[str, Any] = {}
        if os.geteuid() == 0 and uid:
            become = {"user": uid, "group": gid, "extra_groups": []}
        process = subprocess.Popen(
            [*limits(container), "bwrap", "--json-status-fd", str(writing), *view(container)],
            stdin=subprocess.DEVNULL, pass_fds=(writing,), start_new_session=True, **become,
        )  # fmt: skip
        os.close(writing)
        container["pid"] = process.pid
        container["State"]["Status"] = "running"
        self.write(name, container)
        code = process.wait()
        with os.fdopen(reading) as status:
            ran = any("exit-code" in json.loads(line) for line in status)
        container["State"] = {
            "Status": "exited" if ran else "created",
            "ExitCode": code if ran else 127,
            "OOMKilled": (self.state / "out-of-memory").exists(),
        }
        if (self.state / "containers" / name).exists():
            self.write(name, container)
        if not ran:
            fail("failed to start: executable file not found in $PATH: unknown")
        sys.exit(code)

    def inspect(self, arguments: list[str]) -> None:
        assert arguments[:2] == ["--format", "{{json .State}}"]
        print(json.dumps(read(self.state / "containers" / arguments[2])["State"]))

    def ps(self, arguments: list[str]) -> None:
        assert arguments[:3] == ["--all", "--quiet", "--filter"]
        for path in (self.state / "containers").iterdir():
            if arguments[3] == f"label={read(path)['label']}":
                print(path.name)

    def rm(self, arguments: list[str]) -> None:
        assert arguments[:2] == ["--force", "--volumes"]
        for name in arguments[2:]:
            path = self.state / "containers" / name
            container = read(path)
            path.unlink()
            if container["State"]["Status"] == "running":
                with contextlib.suppress(ProcessLookupError):
                    # all of it: what bwrap had not made die with it yet would go on for ever
                    os.killpg(container["pid"], signal.SIGKILL)
                wait_until_gone(container["pid"])


def wait_until_gone(pid: int) -> None:
    with contextlib.suppress(OSError):
        for _ in range(1000):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                break
            time.sleep(0.01)


def limits(container: dict[str, Any]) -> list[str]:
    options = [f"--{each}" for each in container["ulimit"]]
    return ["prlimit", *options, "--"] if options else []


def view(container: dict[str, Any]) -> list[str]:
    assert container["cap_drop"] == "ALL" and container["read_only"]
    assert "no-new-privileges" in container["security_opt"] and container["pull"] == "never"
    image = read(Path(container["image"]))
    uid, gid = container["user"].split(":")
    line = ["--die-with-parent", "--unshare-user", "--uid", uid, "--gid", gid, "--unshare-pid"]
    line += ["--unshare-uts", "--hostname", container["hostname"], "--clearenv"]
    if container["network"] == "none":
        line.append("--unshare-net")
    line += ["--ro-bind", image["root"], "/", "--proc", "/proc", "--dev", "/dev"]
    for text in container["mount"]:
        fields = dict(part.split("=", 1) for part in next(csv.reader([text])))
        assert fields.pop("type") == "bind"
        line += ["--bind", fields.pop("source"), fields.pop("target")]
        assert not fields
    for variable in (*image["env"], *container["env"]):
        line += ["--setenv", *variable.split("=", 1)]
    program = [container["entrypoint"], *container["arguments"]]
    return [*line, "--chdir", container["workdir"], "--", *program]


def main() -> None:
    state, kind, command, *arguments = sys.argv[1:]
    with (Path(state) / "calls").open("a") as log:
        log.write(json.dumps([command, *arguments]) + "\n")
    if (Path(state) / f"broken-{command}").exists():
        fail(f"{command} is broken", 125)
    engine = Engine(Path(state), kind)
    known = ("info", "image", "pull", "create", "start", "inspect", "ps", "rm")
    if command not in known:
        fail(f"unknown command {command}", 125)
    getattr(engine, command)(arguments)


if __name__ == "__main__":
    main()
