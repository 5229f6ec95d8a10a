"""Results that somebody had or made, and whether they can be used here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.dep_info import rewrite_dep_info
from wrapper.hidden_paths import pieces_in
from wrapper.inputs.unit_records import NOTHING, Learned
from wrapper.local_tier import LocalTier, is_made_here, named_blobs
from wrapper.result_checks import CompileHere, Unit
from wrapper.roots import OUTPUTS, ROOT_DIRECTORY
from wrapper.rustc.outputs import dep_info_name
from wrapper.script import root_of
from wrapper.searching import any_contains


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A result that was not looked at yet; fields as in Result."""

    outcome: str
    worker: str | None
    action: BuiltAction
    action_result: re_pb.ActionResult
    is_of_path: bool

    @property
    def blobs(self) -> list[Digest]:
        """All that it names."""
        return named_blobs(self.action_result, self.action.digest.function)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A usable result: every blob is in the local tier. `worker` is set when one just made it.

    `files` are its files' digests by their names in the output directory;
    `root` is the input root that rustc's `stderr` speaks of; `dep_info` has this checkout's paths;
    `action` is what it was found under; `is_of_path`: it holds for this checkout's paths alone;
    `learned` is what the key holds beside what every key has; `key` is the shared key; `sources`
    the hash of the package's directory, unless it is a registry's.
    """

    outcome: str
    worker: str | None
    action: BuiltAction
    action_result: re_pb.ActionResult
    files: Mapping[str, Digest]
    root: str
    stdout: bytes
    stderr: bytes
    dep_info: bytes
    is_of_path: bool
    learned: Learned = NOTHING
    key: Digest | None = None
    sources: str = ""


def _names_of_root(unit: Unit) -> list[bytes]:
    root = ROOT_DIRECTORY.encode()
    # recorded names, which are in many a result, have pieces of it too
    recorded = [place.recorded for place in unit.roots.places]
    return [root, *pieces_in(unit.invocation, [root], recorded)]


async def usable(local: LocalTier, unit: Unit, found: Found, required: Iterable[str]) -> Result:
    """Check a result whose blobs are in the local tier before anyone sees it.

    Raises CompileHere and BlobNotFound.
    """
    function = found.action.digest.function
    files = {
        f.path.removeprefix(f"{OUTPUTS}/"): Digest.from_message(f.digest, function)
        for f in found.action_result.output_files
    }
    lacking = sorted(set(required) - files.keys())
    if lacking:
        raise CompileHere(f"the result lacks {lacking[0]}")
    paths = [
        await local.path(digest)
        for name, digest in files.items()
        if not name.endswith(".d") and digest.size
    ]
    # what was compiled in place was looked through by whoever kept it, and knows no input root
    if (
        not is_made_here(found.action_result)
        and found.outcome != "hit-local"
        and await asyncio.to_thread(any_contains, paths, _names_of_root(unit))
    ):
        raise CompileHere("its output holds the path where it was compiled")
    result = found.action_result
    root, stdout = root_of(await local.said(result.stdout_raw, result.stdout_digest, function))
    dep_info = await local.read(files[dep_info_name(unit.invocation)])
    return Result(
        outcome=found.outcome,
        worker=found.worker,
        action=found.action,
        action_result=result,
        files=files,
        root=root,
        stdout=stdout,
        stderr=await local.said(result.stderr_raw, result.stderr_digest, function),
        dep_info=rewrite_dep_info(dep_info, unit.roots.staged_to_real(root)),
        is_of_path=found.is_of_path,
    )
