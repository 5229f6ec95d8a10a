"""What is measured of one tool in one workspace: builds from cold to nothing to do."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.wrapper.processes import Cost, Failed, measure
from bench.wrapper.tools import Tool, bare_environment
from bench.wrapper.workspaces import Workspace, copy_tree, discard

_IDLE_BUILDS = 5
_MARK = "#[used]\nstatic MARK_OF_BENCHMARK: u64 = {number};\n"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who builds: a checkout, a CARGO_HOME, what the tool keeps for them."""

    tool: Tool
    workspace: Workspace
    home: Path
    cargo_home: Path
    shared: str | None = None

    @property
    def checkout(self) -> Path:
        """The workspace's root."""
        return self.home / self.workspace.name

    @property
    def cache(self) -> Path:
        """All that the tool keeps."""
        return self.home / "cache"

    def environment(self) -> dict[str, str]:
        """The environment of this user's shell."""
        variables = self.tool.variables(self.cache, self.shared)
        return bare_environment(self.home, self.cargo_home) | variables

    def forget(self, *, cache: bool) -> None:
        """Remove what is built, and on demand what the tool keeps, its daemon stopped."""
        discard(self.checkout / "target", self.home / "discarded")
        if cache:
            self.stop()
            discard(self.cache, self.home / "discarded")

    def stop(self) -> None:
        """End the tool's daemon; it stores first what it has yet to store."""
        if self.cache.exists():
            self.tool.stop(self.environment())

    def build(self, where: Path | None = None) -> Cost:
        """One build. Raises Failed."""
        return measure(
            [*self.tool.command, "--offline"], cwd=where or self.checkout,
            environment=self.environment(), log=self.home / "build.log",
        )  # fmt: skip

    def check(self) -> None:
        """Run what was built. Raises Failed."""
        program = self.checkout / "target" / "debug" / self.workspace.program
        done = subprocess.run(
            [program, *self.workspace.arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Failed(f"{program} does not run: {done.stderr}")


@dataclass(slots=True, kw_only=True)
class Bench:
    """The scenarios of one tool in one workspace; `first` and `second` have nothing in common but
    the toolchain.

    `primed`: builds with an empty cache begin with a daemon that has built another, empty crate.
    """

    tool: Tool
    workspace: Workspace
    first: User
    second: User
    primer: Path | None
    sharing: ExitStack
    _stored: bool = field(default=False, init=False)
    _second: User | None = field(default=None, init=False)

    def cold(self) -> list[Cost]:
        """Nothing built, nothing kept."""
        self._empty(self.first)
        cost = self.first.build()
        self.first.check()
        self._stored = True
        return [cost]

    def warm(self) -> list[Cost]:
        """Nothing built, everything kept, in the same place."""
        if not self._stored:
            self.cold()
        self.first.forget(cache=False)
        cost = self.first.build()
        self.first.check()
        return [cost]

    def idle(self) -> list[Cost]:
        """Nothing to do."""
        self._up_to_date()
        return [self.first.build() for _ in range(_IDLE_BUILDS)]

    def leaf(self) -> list[Cost]:
        """One changed line in the crate on which no other depends, edited before."""
        return self._edit(self.workspace.leaf)

    def base(self) -> list[Cost]:
        """One changed line in the crate on which most depend, edited before."""
        return self._edit(self.workspace.base) if self.workspace.base else []

    def elsewhere(self) -> list[Cost]:
        """Nothing built, nothing kept, in another place by another user, after the first shared."""
        second = self._second or self._share()
        if second is None:
            return []
        self._empty(second)
        cost = second.build()
        second.check()
        return [cost]

    def close(self) -> None:
        """Stop the daemons."""
        for user in (self.first, self._second):
            if user is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    user.stop()

    def _share(self) -> User | None:
        """Have what the first user compiles shared. Returns the second user, who can get it."""
        shared = self.sharing.enter_context(self.tool.sharing(self.first.home / "shared"))
        if shared is None:
            return None
        self.first.forget(cache=True)
        filling = _sharing(self.first, shared)
        filling.build()
        filling.stop()
        filling.forget(cache=True)
        self._stored = False
        self._second = _sharing(self.second, shared)
        return self._second

    def _empty(self, user: User) -> None:
        user.forget(cache=True)
        if self.primer is not None:
            discard(self.primer / "target", self.primer.with_name("discarded"))
            user.build(self.primer)

    def _up_to_date(self) -> None:
        if not self._stored:
            self.cold()
        self.first.build()

    def _edit(self, name: str) -> list[Cost]:
        """The first edit is not measured: it makes the compiler's incremental state."""
        self._up_to_date()
        path = self.first.checkout / name
        source = path.read_text()
        try:
            for _ in range(2):
                path.write_text(source + _MARK.format(number=next(_numbers)))
                cost = self.first.build()
        finally:
            path.write_text(source)
        self.first.check()
        return [cost]


def _sharing(user: User, shared: str) -> User:
    return User(
        tool=user.tool, workspace=user.workspace, home=user.home, cargo_home=user.cargo_home,
        shared=shared,
    )  # fmt: skip


SCENARIOS: dict[str, Callable[[Bench], list[Cost]]] = {
    "cold": Bench.cold,
    "warm": Bench.warm,
    "idle": Bench.idle,
    "leaf": Bench.leaf,
    "base": Bench.base,
    "elsewhere": Bench.elsewhere,
}
"""In the order in which a round takes them."""

BEGUN_WITH_NOTHING = ("cold", "elsewhere")
"""Those that a daemon which runs already makes easier."""


def make_bench(
    tool: Tool,
    workspace: Workspace,
    *,
    directory: Path,
    sources: Path,
    cargo_homes: tuple[Path, Path],
    primer: Path | None,
    sharing: ExitStack,
) -> Bench:
    """Two users of a tool with a checkout each, at paths of different lengths."""
    users = []
    for name, cargo_home in zip(("first", "second/of another"), cargo_homes, strict=True):
        home = directory / "users" / tool.name / workspace.name / name
        home.mkdir(parents=True)
        user = User(tool=tool, workspace=workspace, home=home, cargo_home=cargo_home)
        copy_tree(sources, user.checkout)
        users.append(user)
    return Bench(
        tool=tool, workspace=workspace, first=users[0], second=users[1], primer=primer,
        sharing=sharing,
    )  # fmt: skip
