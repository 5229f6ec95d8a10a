"""Runs bazel: one client on one machine, with its own output base, against a server."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .processes import Finished, client_environment, run
from .programs import BAZEL_REPOSITORIES, Tools

# bazel's own line at the end: "INFO: 9 processes: 3 remote cache hit, 4 internal, 2 local."
_SUMMARY = re.compile(r"INFO: \d+ process(?:es)?: (.*)\.")
_REPOSITORIES = {
    "rules_java": BAZEL_REPOSITORIES / "rules" / "java",
    "rules_proto": BAZEL_REPOSITORIES / "rules" / "proto",
    "bazel_skylib": BAZEL_REPOSITORIES / "tools" / "skylib",
    "platforms": BAZEL_REPOSITORIES / "platforms",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One finished bazel command."""

    finished: Finished
    links: Path

    @property
    def actions(self) -> Counter[str]:
        """How many actions ran where: 'remote cache hit', 'remote', 'local' (and 'internal')."""
        counts: Counter[str] = Counter()
        for summary in _SUMMARY.findall(self.finished.output):
            for part in summary.split(", "):
                number, _, where = part.partition(" ")
                counts[where] += int(number)
        del counts["internal"]
        return counts

    @property
    def text(self) -> str:
        return self.finished.output

    def output(self, name: str) -> Path:
        return self.links / "bazel-bin" / name

    def test_log(self, name: str) -> str:
        return (self.links / "bazel-testlogs" / name / "test.log").read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bazel:
    """A bazel user: `machine` holds all that bazel remembers, `workspace` is the checkout.

    Runs in batch mode, so that no bazel server is left behind.
    """

    tools: Tools
    machine: Path
    workspace: Path
    startup: tuple[str, ...] = ()

    def __call__(self, verb: str, *arguments: str, status: int = 0, timeout: float = 180) -> Build:
        links = self.machine / "links"
        links.mkdir(parents=True, exist_ok=True)
        repositories = {**_REPOSITORIES, **stub_repositories(self.workspace)}
        command: list[str | Path] = [
            self.tools.bazel, "--batch", "--nohome_rc", f"--output_user_root={self.machine}/out",
            *self.startup, verb,
            *(f"--override_repository={name}={path}" for name, path in repositories.items()),
            # One PATH for all, so that two machines make the same actions.
            "--incompatible_strict_action_env", "--nosandbox_debug", "--noshow_progress",
            "--color=no", "--curses=no", f"--symlink_prefix={links}/bazel-",
            "--jobs=4", "--verbose_failures", *arguments,
        ]  # fmt: skip
        environment = client_environment(self.machine / "home")
        finished = run(command, cwd=self.workspace, environment=environment, timeout=timeout)
        return Build(finished=finished.expect(status), links=links)


def stub_repositories(workspace: Path) -> dict[str, Path]:
    """The repositories that the workspace brings itself, beside itself."""
    beside = workspace.parent / "repositories"
    return {name: beside / name for name in ("rules_cc", "remote_coverage_tools")}
