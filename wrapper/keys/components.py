"""Read a key's components again: what an Action and all below it say, as names and values."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from sqlite3 import Connection

from remote_apis.digest import Digest
from remote_apis.digest_functions import BY_LABEL, DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.build_scripts.keys import DEPENDS_ON, KIND, DependsOn
from wrapper.inputs.upwards import split_state
from wrapper.roots import OUTPUTS, ROOT, ROOT_DIRECTORY
from wrapper.script import absent_of, commands_of

_ROOT = re.compile(r"\$R/")
_STAGED = f"{ROOT}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """What a key is made of, but for the files: those hang on `root`, a directory's digest.

    `options` are `(name, value)` in order; `environment` and `options` have paths relative to the
    input root; `paths` is what holds for this checkout alone, staged name to real path.
    `upwards` is what was looked for above the workspace, by its name, and what was there.
    `depends_on` is what else a build script's run depends on; None where that is not known, and for
    units, whose files are all below `root`.
    """

    options: tuple[tuple[str, str], ...]
    environment: Mapping[str, str]
    platform: Mapping[str, str]
    outputs: tuple[str, ...]
    paths: Mapping[str, str]
    root: str
    upwards: Mapping[str, str] = field(default_factory=dict)
    depends_on: DependsOn | None = None


class Gone(Exception):
    """A message is no longer in the journal; what it said is not known."""


class Messages:
    """Reads the messages that the journal keeps. Every method may raise Gone."""

    def __init__(self, database: Connection) -> None:
        self._database = database

    def components(self, action: str) -> Components:
        """The components of an action by its digest's text."""
        function = function_of(action)
        message = re_pb.Action.FromString(self._read(action))
        command = re_pb.Command.FromString(
            self._read(str(Digest.from_message(message.command_digest, function)))
        )
        root = str(Digest.from_message(message.input_root_digest, function))
        depends_on, upwards = None, {}
        if command.arguments[:1] == [KIND]:
            variables = command.environment_variables
            environment = {v.name: v.value.replace(_STAGED, "") for v in variables}
            options: list[tuple[str, str]] = []
            depends_on = self._depends_on(root)
        else:
            script = self._script(root)
            environment, options = _said_by(script)
            upwards = dict(filter(None, map(split_state, absent_of(script))))
        properties = message.platform.properties
        salt = message.salt.decode("utf-8", "surrogateescape")
        return Components(
            options=tuple(options),
            environment={name: _ROOT.sub("", value) for name, value in environment.items()},
            platform={p.name: p.value for p in properties},
            outputs=tuple(path.removeprefix(f"{OUTPUTS}/") for path in command.output_paths),
            paths=_pairs(salt.split("\0")) if salt else {},
            root=root,
            upwards=upwards,
            depends_on=depends_on,
        )

    def _depends_on(self, root: str) -> DependsOn | None:
        digest = self.entries(root).get(DEPENDS_ON)
        if digest is None:
            return None
        return DependsOn.load(self._read(digest).replace(json.dumps(_STAGED)[1:-1].encode(), b""))

    def _script(self, root: str) -> bytes:
        top = self.entries(root)
        inner = self.entries(top[ROOT_DIRECTORY + "/"]) if ROOT_DIRECTORY + "/" in top else {}
        if "run.sh" not in inner:
            raise Gone("run.sh")
        return self._read(inner["run.sh"])

    def entries(self, directory: str) -> dict[str, str]:
        """What is in a directory: name to digest, or to a link's target; `/` ends a directory's."""
        function = function_of(directory)
        message = re_pb.Directory.FromString(self._read(directory))
        found = {f.name: str(Digest.from_message(f.digest, function)) for f in message.files}
        found |= {
            d.name + "/": str(Digest.from_message(d.digest, function)) for d in message.directories
        }
        return found | {link.name: f"-> {link.target}" for link in message.symlinks}

    def _read(self, digest: str) -> bytes:
        row = self._database.execute(
            "SELECT data FROM messages WHERE digest = ?", (digest,)
        ).fetchone()
        if row is None:
            raise Gone(digest)
        return zlib.decompress(row[0])


def function_of(digest: str) -> DigestFunction:
    """The function that a digest's text names."""
    return BY_LABEL[digest.partition(":")[0]]


def _said_by(script: bytes) -> tuple[dict[str, str], list[tuple[str, str]]]:
    try:
        environment, command = commands_of(script)
    except ValueError as error:
        raise Gone(str(error)) from error
    return environment, list(_options(_ROOT.sub("", word) for word in command))


def _pairs(items: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _options(words: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Options with their values; `-C x=y` and the like are named by `-C x`."""
    next(words, None)  # the driver: its files are part of the input root
    waiting = ""
    for word in words:
        if waiting and not word.startswith("-"):
            yield _named(waiting, word)
            waiting = ""
            continue
        if waiting:
            yield waiting, ""
        waiting = ""
        if word.startswith("--") and "=" in word:
            name, _, value = word.partition("=")
            yield name, value
        elif word.startswith("-"):
            waiting = word
        else:
            yield "", word
    if waiting:
        yield waiting, ""


def _named(option: str, value: str) -> tuple[str, str]:
    if option == "--codegen":
        name, _, rest = value.partition("=")
        return f"-C {name}", rest
    if option == "--extern":
        name, _, rest = value.partition("=")
        return f"--extern {name.rpartition(':')[2]}", rest
    return option, value
