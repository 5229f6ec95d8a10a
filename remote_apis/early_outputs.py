"""Outputs that others can go on with while their action still runs: what both ends agree on.

A Command says in the variable which of its output paths are of use early, separated by spaces. A
worker that knows of it uploads those files when the first is there and named on stderr, and puts
them, with what was printed by then, into the ActionCache under the key of `early_action`. Whoever
does not know of it ignores a variable.
"""

from __future__ import annotations

from collections.abc import Sequence

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

VARIABLE = "DISTBUILD_EARLY_OUTPUTS"


def paths_said(value: str) -> Sequence[str]:
    """The output paths in the variable's value."""
    return value.split()


def early_action(action: re_pb.Action, digest: Digest) -> bytes:
    """The serialised Action whose result are the early outputs of another's execution.

    Made of the other's digest and not of its message: a scheduler may hand that on with a timeout.
    """
    message = re_pb.Action(
        command_digest=action.command_digest,
        input_root_digest=action.input_root_digest,
        salt=f"early outputs of {digest.hash}".encode(),
    )
    return message.SerializeToString(deterministic=True)
