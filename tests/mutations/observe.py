"""What a build made: everything that can be seen of it, and the bytes of its artifacts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN_SECONDS = 60
_SHOWN = 4
LOAD = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).capi_value())"
_CHANGING = (
    (re.compile(r"(thread '.*?') \(\d+\)"), r"\1"),
    (re.compile(r"finished in [\d.]+s"), "finished"),
    # the latter by plain cargo, where the component rust-src is (docs/wrapper.md)
    (re.compile(r"/rustc/[0-9a-f]{40}/|/\S+/lib/rustlib/src/rust/"), "/std/"),
)
_SECTION = re.compile(r"^\s*\[\s*\d+\]\s+(\S+)", re.MULTILINE)
_GIVEN_BUILD_ID = re.compile(r"Build ID: (1234\w*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """`facts`: what programs print, what compilers say, by what it is about; paths are shortened.

    `artifacts`: digests of libraries and programs by their path in the target directory.
    """

    facts: Mapping[str, str]
    artifacts: Mapping[str, str]


def observe(
    built: subprocess.CompletedProcess[str], workspace: Path, environment: Mapping[str, str]
) -> Observation:
    """Look at a build by its messages (`--message-format=json`) and run what it made."""
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    succeeded = built.returncode == 0
    facts = {"build": "succeeded" if succeeded else "failed"}
    said = dict(_diagnostics(messages, workspace, errors_only=not succeeded))
    if not succeeded:
        # which units cargo still starts after the first failure is chance
        facts["error"] = min(said.values(), default="none of the compiler's")
        return Observation(facts=facts, artifacts={})
    facts |= said
    for message in messages:
        if message["reason"] != "compiler-artifact":
            continue
        for key, text in _programs(message, workspace, environment):
            facts[key] = text
    return Observation(facts=facts, artifacts=dict(artifacts(workspace / "target")))


def shorten(text: str, workspace: Path) -> str:
    """Replace what may differ: a recorded path (docs/adr/0001) is the real one's equal."""
    text = text.replace("/proc/self/cwd", str(workspace))
    text = re.sub(r"/distbuild/cargo/package/beside-[^/]+", f"{workspace.parent}/beside", text)
    text = text.replace(f"{workspace}/", "./")
    for pattern, replacement in _CHANGING:
        text = pattern.sub(replacement, text)
    return text


def _diagnostics(
    messages: Sequence[Mapping[str, Any]], workspace: Path, *, errors_only: bool
) -> Iterator[tuple[str, str]]:
    said: dict[str, list[str]] = {}
    for message in messages:
        if message["reason"] != "compiler-message":
            continue
        level, text = message["message"]["level"], message["message"]["rendered"]
        if errors_only and level != "error":
            continue
        if text.startswith("error: linking with"):
            text = text.splitlines()[0]
        target = message["target"]
        key = f"messages of {target['kind'][0]} {target['name']}"
        said.setdefault(key, []).append(shorten(text, workspace))
    for key, texts in said.items():
        # a library and its unit tests say the same, or one of them was cut short by a failure
        yield key, "".join(sorted(set(texts)))


def _programs(
    message: Mapping[str, Any], workspace: Path, environment: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    target = message["target"]
    name = f"{target['kind'][0]} {target['name']}{' (test)' if message['profile']['test'] else ''}"
    program = message["executable"]
    if program and target["kind"][0] != "custom-build":
        yield f"sections of {name}", _sections(program)
        words: list[list[str]] = [[]]
        if message["profile"]["test"]:
            words = [["--nocapture", "--test-threads=1"]]
        elif target["kind"] == ["bin"]:
            words += [["explode"], ["overflow"]]
        for arguments in words:
            yield " ".join([name, *arguments]), _run([program, *arguments], workspace, environment)
    for file in message["filenames"]:
        if target["name"] == "capi" and file.endswith(".so"):
            yield "cdylib capi", _run([sys.executable, "-c", LOAD, file], workspace, environment)
        if target["name"] == "capi" and file.endswith(".a"):
            yield "staticlib capi", str(b"capi_value" in Path(file).read_bytes())


def _run(command: Sequence[str], workspace: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=workspace, env={**environment, "RUST_BACKTRACE": "1"}, capture_output=True,
        timeout=RUN_SECONDS, check=False,
    )  # fmt: skip
    text = f"{done.stdout.decode(errors='replace')}{done.stderr.decode(errors='replace')}"
    return shorten(f"{text}exit code {done.returncode}\n", workspace)


def _sections(program: str) -> str:
    listing = subprocess.run(
        ["readelf", "-SnW", program], capture_output=True, text=True, check=True
    ).stdout
    return " ".join([*_SECTION.findall(listing), *_GIVEN_BUILD_ID.findall(listing)])


def artifacts(target: Path) -> Iterator[tuple[str, str]]:
    """Libraries, metadata and programs that rustc wrote, with their digests."""
    for directory, names, files in os.walk(target):
        names[:] = [n for n in names if n not in (".fingerprint", "incremental", "out", "tmp")]
        for name in files:
            path = Path(directory, name)
            if path.suffix in (".rlib", ".rmeta", ".so", ".a", ".dwp") or (
                not path.suffix and os.access(path, os.X_OK)
            ):
                yield str(path.relative_to(target)), _digest(path)


def _digest(path: Path) -> str:
    """Of a build script's launcher, which names its home, the script's beside it."""
    content = path.read_bytes()
    if content.endswith(b"distbld1"):
        (script,) = path.parent.glob("*.real")
        content = script.read_bytes()
    return hashlib.sha256(content).hexdigest()


def differences(expected: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    """What differs between two sets of facts, with the first lines that only one has."""
    found = []
    for key in sorted(expected.keys() | actual.keys()):
        want, got = expected.get(key, "nothing"), actual.get(key, "nothing")
        if want != got:
            found.append(f"{key}: {_different_lines(want, got)}")
    return found


def _different_lines(want: str, got: str) -> str:
    lacking = [line for line in want.splitlines() if line not in got.splitlines()]
    extra = [line for line in got.splitlines() if line not in want.splitlines()]
    if not lacking and not extra:
        return "only order, repetition or line ends differ"
    return f"{lacking[:_SHOWN]} expected, {extra[:_SHOWN]} here"
