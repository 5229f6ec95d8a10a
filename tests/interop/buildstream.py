"""A BuildStream project, and users of it: each with a cache of their own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from .files import write_files
from .processes import Finished, client_environment, run
from .programs import Tools

_HELLO = """
kind: manual
build-depends: [base.bst]
sources: [{kind: local, path: files/words}]
config:
  build-commands:
  - tr a-z A-Z < words.txt > upper.txt
  install-commands:
  - mkdir -p "%{install-root}/share/empty"
  - cp upper.txt "%{install-root}/share/upper.txt"
  - ln -s upper.txt "%{install-root}/share/link"
"""
_TWICE = """
kind: manual
build-depends: [base.bst, hello.bst]
config:
  install-commands:
  - mkdir -p "%{install-root}/share"
  - cat /share/upper.txt /share/link > "%{install-root}/share/twice.txt"
"""
_BROKEN = """
kind: manual
build-depends: [base.bst]
config:
  build-commands:
  - echo the-reason-is-here >&2; exit 9
"""
_PROJECT = {
    "project.conf": "name: interop\nmin-version: 2.0\nelement-path: elements\n",
    "elements/base.bst": "kind: import\nsources: [{kind: local, path: files/root}]\n",
    "elements/hello.bst": _HELLO,
    "elements/twice.bst": _TWICE,
    "elements/broken.bst": _BROKEN,
    "files/words/words.txt": "hello world\n",
}
_APPLETS = ("sh", "cat", "chmod", "cp", "echo", "ln", "mkdir", "rm", "touch", "tr")


def write_project(directory: Path, busybox: Path) -> Path:
    """A project whose sandbox is nothing but one static shell, so that `/` stays small."""
    project = write_files(directory / "project", _PROJECT)
    bin_directory = project / "files" / "root" / "bin"
    bin_directory.mkdir(parents=True)
    shutil.copy(busybox, bin_directory / "busybox")
    for applet in _APPLETS:
        (bin_directory / applet).symlink_to("busybox")
    return project


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStream:
    """A user of bst: `machine` holds the caches, `server_url` is every service it uses.

    With `artifacts` off, nothing but the action cache can save a build.
    """

    tools: Tools
    machine: Path
    project: Path
    server_url: str
    artifacts: bool = True
    execution: bool = True

    def __call__(self, *arguments: str | Path, status: int = 0) -> Finished:
        environment = client_environment(self.machine / "home")
        command: list[str | Path] = [
            self.tools.bst, "--config", self._configuration(), "--no-interactive", "--no-colors",
            *arguments,
        ]  # fmt: skip
        finished = run(command, cwd=self.project, environment=environment, timeout=100)
        return finished.expect(status)

    def checkout(self, element: str) -> Path:
        """The files of a built element."""
        target = self.machine / "checkout" / element
        self("artifact", "checkout", element, "--deps", "none", "--directory", target)
        return target

    def _configuration(self) -> Path:
        """BuildStream reads YAML, and JSON is YAML."""
        service = {"url": self.server_url}
        remote = {
            "execution-service": service,
            "storage-service": service,
            "action-cache-service": service,
        }
        servers = {"servers": [{**service, "push": True}]}
        settings: dict[str, object] = {
            "cachedir": str(self.machine / "cache"),
            "sourcedir": str(self.machine / "sources"),
            "logdir": str(self.machine / "logs"),
            # As it comes, its casd keeps 5 % of the disk free: on a fuller one every command hangs.
            "cache": {"quota": "2G", "reserved-disk-space": "100M"},
            "scheduler": {"builders": 2, "network-retries": 0},
        }
        if self.execution:
            settings["remote-execution"] = remote
        if self.artifacts:
            settings |= {"artifacts": servers, "source-caches": servers}
        path = self.machine / "buildstream.conf"
        path.write_text(json.dumps(settings))
        return path
