"""What stands in deploy/, taken apart."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from server.cli.main import build_parser
from server.config.options import size

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
Manifest = dict[str, Any]


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def parse(words: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    """What `distbuild` makes of a command line; every DISTBUILD_ variable must be an option of it.

    Fails as the command would.
    """
    command = [word for word in words[:2] if not word.startswith("-")]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        build_parser({}).parse_args([*command, "--help"])
    known = set(re.findall(r"\$(DISTBUILD_\w+)", text.getvalue()))
    given = {name for name in environment if name.startswith("DISTBUILD_")}
    assert known and given <= known, given - known
    return build_parser(environment).parse_args(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd service; `instance` takes the place of %i."""

    path: Path
    instance: str = ""

    def all(self, key: str) -> list[str]:
        """Every value of a key, in order."""
        lines = self.path.read_text().splitlines()
        return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]

    def one(self, key: str) -> str:
        (value,) = self.all(key)
        return value

    def command(self) -> list[str]:
        return shlex.split(self._expand(self.one("ExecStart")))

    def environment(self) -> dict[str, str]:
        """With the files of deploy/ in place, lines that are commented out there included."""
        found = dict(self._expand(text).split("=", 1) for text in self.all("Environment"))
        for name in self.all("EnvironmentFile"):
            path = Path(name.removeprefix("-").replace("%i", self.instance))
            ours = self.path.parent / path.name
            if ours.exists():
                assert str(path) in ours.read_text(), "the file says where it belongs"
                found |= dict(
                    re.findall(r"^#?(DISTBUILD_\w+)=(.*)$", ours.read_text(), re.MULTILINE)
                )
        return found

    def _expand(self, text: str) -> str:
        for letter, value in (
            ("i", self.instance), ("H", "machine"), ("S", "/var/lib"), ("C", "/var/cache"),
        ):  # fmt: skip
            text = text.replace(f"%{letter}", value)
        assert "%" not in text
        return text


def seconds(text: str) -> int:
    """A time of systemd's, as far as it is used here."""
    if text.endswith("min"):
        return 60 * int(text.removesuffix("min"))
    return int(text)


def manifests() -> list[Manifest]:
    """All objects of deploy/kubernetes, the kustomization's resources."""
    folder = DEPLOY / "kubernetes"
    names = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {*names, "kustomization.yaml"} == {path.name for path in folder.iterdir()}
    return [each for name in names for each in yaml.safe_load_all((folder / name).read_text())]


def manifest(kind: str, name: str) -> Manifest:
    """One object."""
    (found,) = (m for m in manifests() if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


def pod(owner: Manifest) -> Manifest:
    """The pod's specification of a StatefulSet or a Deployment."""
    spec: Manifest = owner["spec"]["template"]["spec"]
    return spec


def container(owner: Manifest) -> Manifest:
    """Its only container."""
    (found,) = pod(owner)["containers"]
    return dict(found)


def arguments(owner: Manifest) -> argparse.Namespace:
    """What `distbuild` makes of its container's arguments and environment."""
    one = container(owner)
    environment = {entry["name"]: "pod-1" for entry in one.get("env", [])}
    words = [re.sub(r"\$\((\w+)\)", lambda m: environment[m[1]], str(word)) for word in one["args"]]
    return parse(words, environment)


def bytes_of(quantity: str) -> int:
    """A quantity of Kubernetes, as far as it is used here."""
    assert quantity.endswith("i"), quantity
    return size(quantity.removesuffix("i"))


def dockerfile(instruction: str) -> list[str]:
    """The rest of each line that starts so, continuation lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")
    return re.findall(rf"^{instruction} +(.*)$", text, re.MULTILINE)
