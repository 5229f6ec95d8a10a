"""What bubblewrap runs in a sandbox: limits, another user, exactly the environment, the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.config import ResourceLimits
from worker.materialise import Owner
from worker.sandbox.command_line import command_line
from worker.sandbox.limits import limited, rlimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How a command begins, in a sandbox that root or the worker's own user set up.

    By `become`, our own program, where actions see it as that path; else, a millisecond slower, by
    prlimit, `setpriv` and env.
    """

    become: str | None = None
    setpriv: str | None = None

    def line(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        limits: ResourceLimits,
        owner: Owner | None,
    ) -> list[str]:
        """For bubblewrap: `command`, looked up in the PATH of `environment`, with nothing but that.

        Gives up root for `owner`, if there is one.
        """
        if self.become is not None:
            start = [self.become] if owner is None else [self.become, f"user={owner.uid}"]
            start += [f"{name}={value}" for name, value in rlimits(limits, with_processes=True)]
            variables = [f"{name}={value}" for name, value in environment.items()]
            return [*start, "--", *variables, "--", *command]
        start = limited(limits, with_processes=True)
        if owner is not None:
            assert self.setpriv is not None
            start += [self.setpriv, f"--reuid={owner.uid}", f"--regid={owner.gid}"]
            start += ["--clear-groups", "--inh-caps=-all", "--no-new-privs", "--"]
        return [*start, *command_line(command, environment)]
