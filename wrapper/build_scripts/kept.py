"""What of a watched run is kept, and whether it may be. All of it blocks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.build_scripts.accesses import Seen
from wrapper.build_scripts.environment import may_count
from wrapper.build_scripts.held import held_by
from wrapper.build_scripts.links import add_link, leads_out, named_beside
from wrapper.build_scripts.machine import facts_told
from wrapper.build_scripts.named_variables import (
    declared,
    how_variables_are_looked_at,
    named_in_file,
    tokens_of,
)
from wrapper.build_scripts.names import Names, above, is_below
from wrapper.build_scripts.outputs import empty_tree, staged, take_outputs
from wrapper.build_scripts.reach import reach_of
from wrapper.build_scripts.reads import Record, Values, changed_since, named
from wrapper.build_scripts.run import NotWorthKeeping, Watched, key_of, run_variables
from wrapper.build_scripts.texts import texts_read
from wrapper.hidden_paths import BITCODE, OBJECT, pieces_together
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.snapshot import Source, is_probe
from wrapper.local_tier import stamp_made_here
from wrapper.recorded import NotKept
from wrapper.roots import ROOT, cargo_home
from wrapper.searching import mapped
from wrapper.whose import Whose, file_holds, holds_path, paths_of_checkout, real_paths

_ROOT = ROOT.encode()
_SHORT = 16
"""A path of fewer letters may have no two pieces of eight wherever it is taken apart."""

_OF_TIME_ZONES = ("/etc/localtime", "/usr/share/zoneinfo")
_MAX_FILES = 20_000
_MAX_BYTES = 1 << 30
_PUT_BACK_SECONDS = 25e-6
"""What a hit takes for each file."""

_NOTING_SECONDS = 10e-6
"""What a watched run waits at each access; all in all it takes up to three times as long."""


def check_worth(watched: Watched) -> None:
    """Raises NotWorthKeeping."""
    files, sizes = len(watched.made), sum(size for _, size, _ in watched.made.values())
    if files > _MAX_FILES or sizes > _MAX_BYTES:
        raise NotWorthKeeping("it makes more than is worth keeping")
    unwatched = max(watched.seconds - watched.accesses * _NOTING_SECONDS, watched.seconds / 3)
    if files * _PUT_BACK_SECONDS > unwatched:
        raise NotWorthKeeping(f"it makes its {files} files sooner than they could be put back")


def record_of(watched: Watched) -> Record:
    """What the run depended on. Raises NotKept, NotNameable and OSError."""
    run, seen = watched.run, watched.seen
    if seen.trouble is not None:
        raise NotKept(seen.trouble)
    with open(run.program, "rb") as file:
        program = file.read()
    tokens = tokens_of(program)
    reach = reach_of(path for path in seen.programs if os.path.exists(path))
    if seen.own_programs:
        reach = f"any {reach.partition(' ')[2]}".rstrip()
    if "" in seen.asked:
        reach += f" told {how_variables_are_looked_at(program)}".rstrip()
    if any(os.path.basename(path) == "ldconfig" for path in seen.programs):
        seen.reads["/etc/ld.so.cache"] = "o"  # others but look there for what they are loaded with
    if reach.startswith("any"):
        tokens = " ".join([tokens, *sorted(_named_in_files(seen)), *_tokens_of_own(seen)])
    said = (watched.stdout, watched.stderr)
    asked = set(filter(may_count, seen.asked))
    if any(is_below(path, _OF_TIME_ZONES) for path in seen.reads):
        asked.add("TZ")  # of which the C library hears without being asked
    facts = facts_told(watched.made, said, run.program, seen.programs)
    return Record(
        paths=named(seen, run.names) | {("k", name) for name in facts},
        variables=frozenset((*declared(watched.stdout), *asked)),
        tokens=tokens,
        reach=reach,
    )


def _named_in_files(seen: Seen) -> set[str]:
    """The variables that are named in what was read."""
    return {name for path, text in texts_read(seen.reads) for name in named_in_file(path, text)}


def _tokens_of_own(seen: Seen) -> Iterator[str]:
    """What programs that a run made, and ran, may call variables."""
    for path in sorted(filter(os.path.isfile, seen.own_programs)):
        with mapped(path) as data:
            yield tokens_of(data[:])


def key_then(watched: Watched, script: BuiltAction, record: Record, values: Values) -> BuiltAction:
    """The key of the run as it was then. Raises NotKept, NotNameable and OSError."""
    values.forget()
    action = key_of(watched.run, script, record, values)
    run, started = watched.run, int(watched.started * 1e9)
    homes = (run.environment.get("HOME", ""), cargo_home(run.environment))
    busy = {run.environment.get("TMPDIR", "/tmp").rstrip("/"), *homes}
    # whoever looks for a repository looks there, where others' are made and removed
    busy.update(*map(above, (run.roots.workspace, *homes)))
    places = (run.roots.workspace, run.roots.package)
    changed = changed_since(watched.seen, started, run.roots.targets, busy, places)
    if changed is not None:
        raise NotKept(f"{changed} was changed while it ran")
    return action


def result_of(
    watched: Watched, record: Record, files: FileDigests
) -> tuple[re_pb.ActionResult, dict[Digest, Source]]:
    """The run's result and its blobs. Raises NotKept, NotStorable and OSError."""
    run = watched.run
    result, blobs = take_outputs(run.out_dir, files, run.roots, run.umask)
    for name, path in named_beside(watched.seen.left, run.roots):
        add_link(result, name, path, run.roots)
    for data, target in (
        (watched.stdout, result.stdout_digest),
        (watched.stderr, result.stderr_digest),
    ):
        if data:
            text = staged(data, run.roots)
            blobs[Digest.of(text, files.function)] = text
            target.CopyFrom(Digest.of(text, files.function).to_message())
    held = held_by(watched, run_variables(run, record), blobs.values())
    if held is not None:
        raise NotKept(f"what it makes holds {held}")
    tree = empty_tree(result)
    if tree is not None:
        blobs[Digest.of(tree, files.function)] = tree
    end = watched.started + watched.seconds
    stamp_made_here(result, int(watched.started * 1e9), int(end * 1e9))
    return result, blobs


def whose_run(
    watched: Watched, result: re_pb.ActionResult, blobs: Mapping[Digest, Source]
) -> Whose:
    """For whom the result is right. Raises OSError."""
    run = watched.run
    if any(leads_out(link) for link in result.output_symlinks):
        return Whose.THE_CHECKOUTS
    links = (os.fsencode(link.target) for link in result.output_symlinks)
    if any(_tells_around(each, run.names) for each in (*blobs.values(), *links)):
        return Whose.THE_CHECKOUTS
    # of a registry's package all share the name but CARGO_HOME, which short pieces do not tell
    own = {run.roots.target}
    if len(run.roots.target) < _SHORT:
        own.add(run.out_dir)  # what both begin with has no two pieces
    if not is_published(run.roots.package):
        own.add(run.roots.workspace)
    recorded = (place.recorded for place in run.roots.places)
    hidden = pieces_together(map(os.fsencode, {*own, *map(os.path.realpath, own)}), recorded)
    has_names = _has_names(result, blobs)
    # what is named to cargo may be used, and a compiler probe too
    is_named = os.fsencode(run.out_dir) in watched.stdout
    made = [s for s in blobs.values() if is_named or isinstance(s, bytes) or not is_probe(s)]

    def holds(paths: list[str]) -> bool:
        is_literal = has_names and _may_say(watched, paths)
        return is_literal or any(_holds(each, paths, hidden) for each in made)

    if not holds(real_paths(run.roots)):
        return Whose.EVERYBODYS
    is_here = holds(paths_of_checkout(run.roots))
    return Whose.THE_CHECKOUTS if is_here else Whose.THE_USERS


def _tells_around(source: Source, names: Names) -> bool:
    if isinstance(source, bytes):
        return names.tells_around(source)
    with mapped(source) as data:
        return names.tells_around(data)


def _has_names(result: re_pb.ActionResult, blobs: Mapping[Digest, Source]) -> bool:
    """Whether in what the run said, or noted, something has a name in place of a path."""
    is_said = any(isinstance(each, bytes) and _ROOT in each for each in blobs.values())
    return is_said or any(ROOT in link.target for link in result.output_symlinks)


def _may_say(watched: Watched, paths: Sequence[str]) -> bool:
    """Whether one of the paths may be the same everywhere, and this place's by chance: it stands in
    the script itself, where that has no name by which it is known why, or in what it read but for
    others' results."""
    if watched.run.name is None and file_holds(watched.run.program, paths):
        return True
    texts = texts_read(watched.seen.reads, watched.run.roots.targets)
    return any(holds_path(text, path) for _, text in texts for path in paths)


def _holds(source: Source, paths: Iterable[str], hidden: Iterable[Sequence[bytes]]) -> bool:
    """Whether a blob holds any of the paths, or an object the pieces of one, or what hides them."""
    if isinstance(source, bytes):
        return any(holds_path(source, path) for path in paths)
    with mapped(source) as data:
        if any(holds_path(data, path) for path in paths):
            return True
        if not data[:8].startswith(OBJECT):
            return False
        marks = [*hidden, *((each,) for each in BITCODE)]
        return any(all(data.find(each) >= 0 for each in together) for together in marks)
