"""The wire between shim or launcher and daemon; wrapper/shim/daemon.h documents it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

VERSION = b"2"
SCRIPT_VERSION = b"S2"
_KINDS = {VERSION: "rustc", SCRIPT_VERSION: "script"}
MAX_REQUEST = 64 << 20
_U32 = struct.Struct("<I")


class BadCall(Exception):
    """The request is not one of this protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One rustc, or one build script (`script`), that cargo started; `parent` is the process id of
    who did.

    Of a build script `argv` is its program and the workspace's directory. `configured` are
    variables that configuration files set; they are settings of the wrapper, and rustc does not
    see them. `umask`: the mode bits that files of the caller's do not get, where it is known.
    """

    parent: int
    cwd: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    configured: dict[str, str] = field(default_factory=dict)
    kind: str = "rustc"
    umask: int | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The environment, and below it what configuration files set."""
        return {**self.configured, **self.environment}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def decode_call(data: bytes) -> Call:
    """Read a request's strings. Raises BadCall."""
    parts = data.split(b"\0")
    if len(parts) < 5 or parts[0] not in _KINDS or parts[-1] != b"":
        raise BadCall("the shim speaks another version of the protocol")
    try:
        parent, count = int(parts[1]), int(parts[3])
    except ValueError as error:
        raise BadCall(f"a number is wrong: {error}") from None
    arguments = parts[4:-1][: max(count, 0)]
    if count < 1 or len(arguments) != count:
        raise BadCall("the arguments are not all there")
    pairs = (_text(item).partition("=") for item in parts[4 + count : -1])
    return Call(
        kind=_KINDS[parts[0]],
        parent=parent,
        cwd=_text(parts[2]),
        argv=tuple(_text(a) for a in arguments),
        environment={name: value for name, equals, value in pairs if equals},
    )


async def read_call(reader: asyncio.StreamReader) -> Call:
    """The request of a connection. Raises BadCall, or IncompleteReadError when the shim left."""
    (size,) = _U32.unpack(await reader.readexactly(4))
    if size > MAX_REQUEST:
        raise BadCall(f"a request of {size} bytes")
    return decode_call(await reader.readexactly(size))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRun:
    """What a rustc that the shim ran here ended with: its wait status and its stderr."""

    status: int
    stderr: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRun:
    """What a build script that the launcher ran ended with, and the accesses that were seen."""

    status: int
    stdout: bytes
    stderr: bytes
    accesses: bytes


class Reply:
    """What the shim is told to do. Exactly one of `finish`, `exec_rustc`, `exec_script`, `run`
    ends it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_ended = False

    def _frame(self, kind: bytes, payload: bytes) -> None:
        self._writer.write(kind + _U32.pack(len(payload)) + payload)

    def tell_user(self, line: str) -> None:
        """A line for the user, past cargo's record of the unit's messages."""
        self._frame(b"W", f"{line}\n".encode("utf-8", "surrogateescape"))

    def begin(self, stderr: bytes) -> None:
        """Let the shim say this at once, the unit's metadata being there; the rest follows."""
        self._frame(b"E", stderr)
        self._frame(b"F", b"")

    async def sent(self) -> None:
        """Wait until the shim has what it was told. Raises ConnectionError when it is gone."""
        await self._writer.drain()

    def finish(self, *, stdout: bytes, stderr: bytes, exit_code: int) -> None:
        """Replay a result."""
        if stdout:
            self._frame(b"O", stdout)
        if stderr:
            self._frame(b"E", stderr)
        self._frame(b"X", _U32.pack(exit_code))
        self.is_ended = True

    def exec_rustc(self) -> None:
        """Let the shim become the rustc that cargo asked for."""
        self.exec_script({})

    def exec_script(self, variables: Mapping[str, str]) -> None:
        """Let the launcher become the script, with these variables beside its own."""
        self._frame(b"L", _pairs(variables))
        self.is_ended = True

    async def run(
        self,
        argv: Sequence[str],
        replacements: Sequence[tuple[str, str]],
        *,
        on_trial: bool = False,
    ) -> LocalRun:
        """Let the shim run a command and say how it ended.

        On trial, what the command says is held back until its metadata is there or it ends, and
        then `let_stand` or another `run` must follow. Raises IncompleteReadError when the shim is
        killed.
        """
        strings = [text for pair in replacements for text in pair] + list(argv)
        body = b"".join(s.encode("utf-8", "surrogateescape") + b"\0" for s in strings)
        self._frame(b"H" if on_trial else b"T", _U32.pack(len(replacements)) + body)
        self.is_ended = True
        await self._writer.drain()
        stderr = bytearray()
        while True:
            kind, size = struct.unpack("<cI", await self._reader.readexactly(5))
            payload = await self._reader.readexactly(size)
            if kind == b"X":
                return LocalRun(status=_U32.unpack(payload)[0], stderr=bytes(stderr))
            stderr += payload

    async def watch(self, variables: Mapping[str, str]) -> WatchedRun:
        """Let the launcher run its build script, with these variables beside its own.

        Then `let_stand` or `exec_script`, for a run without watching, must follow. Raises
        IncompleteReadError when the launcher is killed.
        """
        self._frame(b"R", _pairs(variables))
        self.is_ended = True
        await self._writer.drain()
        pieces = {b"O": bytearray(), b"E": bytearray(), b"A": bytearray()}
        while True:
            kind, size = struct.unpack("<cI", await self._reader.readexactly(5))
            payload = await self._reader.readexactly(size)
            if kind == b"X":
                status = _U32.unpack(payload)[0]
                stdout, stderr, accesses = map(bytes, pieces.values())
                return WatchedRun(status=status, stdout=stdout, stderr=stderr, accesses=accesses)
            pieces[kind] += payload

    def let_stand(self) -> None:
        """What ran on trial is the result, however it ended."""
        self._frame(b"X", _U32.pack(0))


def _pairs(variables: Mapping[str, str]) -> bytes:
    pairs = (f"{name}={value}\0" for name, value in variables.items())
    return "".join(pairs).encode("utf-8", "surrogateescape")
