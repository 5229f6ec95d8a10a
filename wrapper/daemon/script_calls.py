"""One run of a build script from arrival to answer."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from wrapper.action import BuiltAction
from wrapper.build_scripts.accesses import OTHER_RIGHTS, decode
from wrapper.build_scripts.c_flags import c_flags
from wrapper.build_scripts.names import WRAPPERS, with_places
from wrapper.build_scripts.outputs import NotStorable, empty_directory, stamps
from wrapper.build_scripts.reads import NotNameable
from wrapper.build_scripts.run import NotWorthKeeping, Run, Watched
from wrapper.build_scripts.runs import KeptRun, PutBack
from wrapper.build_scripts.seen import what_was_seen
from wrapper.ccache import switched_off
from wrapper.daemon.parts import Keyed, Parts, Unwatched
from wrapper.daemon.protocol import Call, Reply
from wrapper.daemon.script_entry import RunEntry
from wrapper.daemon.tally import Tally, build_of
from wrapper.here import WATCHED, is_raised
from wrapper.home import BY_HAND, RemoteSettings
from wrapper.layout import name_of_run, place_of_run
from wrapper.offering import offer
from wrapper.recorded import NotKept, Recorded, keep_and_share
from wrapper.remote import Remote
from wrapper.roots import OutsideRoots, cargo_home, find_roots
from wrapper.stats import SCRIPT_RUN, UnitStat, made_in_seconds
from wrapper.wording import trouble

_NEW = "new: no cache had it"
_OTHER_RIGHTS = Unwatched(OTHER_RIGHTS)


@dataclass(slots=True)
class ScriptCallHandler:
    """Answers a launcher. Whatever goes wrong here, the build script runs."""

    parts: Parts
    call: Call
    reply: Reply
    tally: Tally = field(init=False)
    entry: RunEntry = field(init=False)
    keyed: Keyed = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.parts.home, self.parts.lines, self.call)
        self.entry = RunEntry(self.parts.journal, build_of(self.call))

    async def answer(self) -> None:
        """Answer. Raises IncompleteReadError or ConnectionError when the launcher is gone."""
        try:
            run = _run_of(self.call, str(self.parts.home.shim))
        except (NotKept, OutsideRoots) as error:
            self.tally.unit(SCRIPT_RUN, "local", reason=trouble(error))
            self.reply.exec_script({})
            return
        settings = RemoteSettings.of(self.call.settings)
        remote = await self.parts.remotes.get(settings, self.call, self.reply.tell_user)
        self.keyed = self.parts.keyed_for(remote)
        try:
            run = await self.keyed.script_runs.named(run, settings.instance)
            script = self._script(run)
        except (NotKept, OSError) as error:
            unit = self.tally.unit(SCRIPT_RUN, "local", reason=trouble(error))
            # what is linked with its objects may be kept, though it is not
            self.reply.exec_script(c_flags(run.roots, run.environment))
            self.keyed.keeper.submit_other(self._explain(run, unit))
            return
        await self._look_up(run, script, settings, remote)

    def _script(self, run: Run) -> BuiltAction:
        """The key of the script's runs. Raises NotKept where it is of no use, and OSError."""
        if os.listdir(run.out_dir):
            raise NotKept("OUT_DIR holds files from a run before")
        script = self.keyed.script_runs.script(run)
        unwatched = self.parts.unwatched.get(script.digest.hash)
        if unwatched is not None and unwatched.is_so(run.out_dir):
            raise NotKept(unwatched.why)
        return script

    async def _explain(self, run: Run, unit: UnitStat) -> None:
        """Note what a run depends on that nothing was looked for, for whoever asks why it ran."""
        instance = RemoteSettings.of(self.call.settings).instance
        with suppress(OSError):
            action = self.keyed.script_runs.script(run)
            with suppress(DistbuildError, NotNameable, OSError):
                action = await self.keyed.script_runs.wanted(run, action, instance)
            self.entry.look_for(run, action)
        self.entry.ended(unit)

    async def _look_up(
        self,
        run: Run,
        script: BuiltAction,
        settings: RemoteSettings,
        remote: Remote | str | None,
    ) -> None:
        server = remote if isinstance(remote, Remote) and not remote.is_down else None
        wanted = script
        reason = remote if isinstance(remote, str) else _NEW
        if isinstance(remote, Remote) and server is None:
            reason = f"the server {remote.url} is left alone: it {remote.trouble}"
        try:
            back = await self.keyed.script_runs.put_back(run, script, server, settings.instance)
            if isinstance(back, PutBack):
                found = back.found
                made_in = made_in_seconds(found.result)
                unit = self.tally.unit(SCRIPT_RUN, found.outcome, made_in=made_in)
                self._note(run, script, found.action.digest)
                self.reply.finish(stdout=back.stdout, stderr=back.stderr, exit_code=0)
                self.entry.look_for(run, found.action)
                self.entry.ended(unit)
                if server is not None and found.outcome == "hit-local" and not found.is_of_path:
                    runs, local = self.keyed.script_runs, self.parts.local
                    offered = runs.offer(script, found, server, settings.instance)
                    self.keyed.keeper.submit_other(offer(local, server, offered))
                return
            wanted = back
        except DistbuildError as error:
            if server is not None:
                server.note(error)
            reason = f"the result could not be used: {error}"
        except (NotNameable, OSError) as error:
            reason = f"the result could not be used: {trouble(error)}"
        self.parts.remotes.warn_if_down(settings, self.call, self.reply.tell_user)
        self.entry.look_for(run, wanted)
        await self._run_here(run, script, server, reason)

    async def _run_here(
        self, run: Run, script: BuiltAction, server: Remote | None, reason: str
    ) -> None:
        # a call that was given up may have filled it
        await asyncio.to_thread(empty_directory, run.out_dir)
        started, clock = time.time(), time.monotonic()
        name = uuid.uuid4().hex
        async with self.parts.here.core(self.call):
            ended = await self.reply.watch({**self._variables(run), WATCHED: name})
        seconds = time.monotonic() - clock
        accesses = decode(ended.accesses)
        if ended.status != 0 or ("!", OTHER_RIGHTS) in accesses:
            failed = Unwatched("it failed when it was watched", time.time())
            await self._run_unwatched(run, script, failed if ended.status else _OTHER_RIGHTS)
            return
        seen = await asyncio.to_thread(what_was_seen, run, accesses, str(self.parts.home.path))
        if name in self.parts.compiles_within:
            self.parts.compiles_within.discard(name)
            # tells more than what cargo and the sandbox read for it
            seen.trouble = "it has cargo compile other packages"
        made = await asyncio.to_thread(stamps, run.out_dir)
        self.reply.let_stand()
        unit = self.tally.unit(SCRIPT_RUN, "local", reason=seen.trouble or reason)
        self.entry.ended(unit)
        watched = Watched(
            run=run,
            seen=seen,
            made=made,
            stdout=ended.stdout,
            stderr=ended.stderr,
            started=started,
            seconds=seconds,
            accesses=len(accesses),
        )
        recorded = self.entry.recorded(self.parts.home, unit)
        self.keyed.keeper.submit_other(self._keep(watched, script, server, recorded))

    def _variables(self, run: Run) -> dict[str, str]:
        """What a watched run gets beside cargo's, or in its place."""
        environment = run.environment
        variables = {**c_flags(run.roots, environment), **switched_off(environment)}
        variables |= {name: environment[name] for name in WRAPPERS if name in environment}
        if is_raised(self.call):  # cargo's jobs are the pool's: C compilers run here
            variables |= {"CARGO_MAKEFLAGS": "", "NUM_JOBS": str(os.cpu_count() or 1)}
        return variables

    async def _run_unwatched(self, run: Run, script: BuiltAction, unwatched: Unwatched) -> None:
        """The watching may be what it fails by: what it says without is what the user sees."""
        self.parts.unwatched[script.digest.hash] = unwatched
        await asyncio.to_thread(empty_directory, run.out_dir)
        self.entry.ended(self.tally.unit(SCRIPT_RUN, "local", reason=unwatched.why))
        self.reply.exec_script({})

    async def _keep(
        self, watched: Watched, script: BuiltAction, server: Remote | None, recorded: Recorded
    ) -> None:
        instance = RemoteSettings.of(self.call.settings).instance

        async def keep() -> KeptRun:
            try:
                return await self.keyed.script_runs.keep(watched, script, instance)
            except NotWorthKeeping as error:
                self.parts.unwatched[script.digest.hash] = Unwatched(str(error))
                raise

        async def share(kept: KeptRun, remote: Remote) -> None:
            if await self.keyed.script_runs.share(kept, script, remote):
                self._note(watched.run, script, kept.action.digest)

        refusals = (NotKept, NotNameable, NotStorable)
        await keep_and_share(recorded, server, keep=keep, refusals=refusals, share=share)

    def _note(self, run: Run, script: BuiltAction, key: Digest) -> None:
        """Have the next build of the same fetch both ahead."""
        build, name = self.entry.build, name_of_run(run.out_dir)
        self.keyed.beginnings.note(build, f"{name} script", script.digest)
        self.keyed.beginnings.note(build, f"{name} run", key)


def _run_of(call: Call, shim: str) -> Run:
    """Raises NotKept and OutsideRoots for a call that is none of cargo's.

    A compiler that it probes is started by the shim, and not by the shell script that becomes that.
    """
    environment = {
        name: shim if name in WRAPPERS and os.path.basename(value) == BY_HAND else value
        for name, value in call.environment.items()
    }
    if len(call.argv) != 2 or not os.path.isabs(environment.get("OUT_DIR", "")):
        raise NotKept("cargo gave no OUT_DIR")
    program, workspace = call.argv
    package = environment.get("CARGO_MANIFEST_DIR", "")
    is_member = workspace != package or not package.startswith(cargo_home(environment))
    roots = find_roots(
        cwd=workspace if is_member else package,
        source="build.rs" if is_member else f"{package}/build.rs",
        out_dir=place_of_run(environment["OUT_DIR"]),  # as cargo calls it, by links or not
        triple=environment.get("TARGET"),
        environment=environment,
        sources=None,
    )
    return Run(
        program=program,
        roots=with_places(roots, environment).with_links_followed(),
        environment=environment,
        umask=call.umask,
    )
