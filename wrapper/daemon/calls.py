"""One rustc call from arrival to answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from remote_apis.errors import DistbuildError
from wrapper.build_scripts.names import is_below
from wrapper.daemon.delivery import Delivery
from wrapper.daemon.own_compile import OwnCompile
from wrapper.daemon.parts import Keyed, Parts
from wrapper.daemon.protocol import Call, Reply
from wrapper.daemon.tally import Tally, build_of
from wrapper.found import Result
from wrapper.here import WATCHED, is_raised
from wrapper.home import RemoteSettings
from wrapper.keys.journal import Ended, Subject
from wrapper.ladder import Ask, Draft, check
from wrapper.offering import Offer, offer
from wrapper.remote import Remote
from wrapper.result_checks import CompileHere, Unit
from wrapper.roots import OutsideRoots
from wrapper.rustc.arguments import Invocation, NotUnderstood, Probe, parse
from wrapper.rustc.by_name import path_of_driver
from wrapper.rustc.outputs import unit_kind
from wrapper.stats import UnitStat, made_in_seconds
from wrapper.wording import not_kept, trouble


@dataclass(slots=True)
class CallHandler:
    """Answers one call. Nothing that goes wrong here may fail what plain cargo would have done."""

    parts: Parts
    call: Call
    reply: Reply
    tally: Tally = field(init=False)
    keyed: Keyed = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.parts.home, self.parts.lines, self.call)

    async def answer(self) -> None:
        """Answer the shim. Raises IncompleteReadError or ConnectionError when it is gone."""
        try:
            if "CARGO_CRATE_NAME" not in self.call.environment:
                raise Probe  # no unit of cargo's: such calls the shim leaves to rustc unasked
            call = self.call
            driver = path_of_driver(call.argv[0], call.environment, call.cwd)
            self.call = replace(self.call, argv=(driver, *self.call.argv[1:]))
            invocation = parse(self.call.argv)
            if WATCHED in self.call.environment:
                self.parts.compiles_within.add(self.call.environment[WATCHED])
        except Probe:
            self.reply.exec_rustc()
            return
        except NotUnderstood as reason:
            self._count(None, "local", reason=str(reason))
            self.reply.exec_rustc()
            return
        try:
            await self._compile(invocation)
        except OutsideRoots as reason:
            self._count(invocation, "local", reason=str(reason))
            self.reply.exec_rustc()

    async def _compile(self, invocation: Invocation) -> None:
        settings = RemoteSettings.of(self.call.settings)
        remote = await self.parts.remotes.get(settings, self.call, self.reply.tell_user)
        self.keyed = self.parts.keyed_for(remote)
        unit = self._unit(invocation)
        delivery = Delivery(
            parts=self.parts, keyed=self.keyed, call=self.call, reply=self.reply
        )  # fmt: skip
        try:
            check(unit)
            if isinstance(remote, Remote):
                self.keyed.beginnings.first(self.call, invocation.driver, remote)
            ask = Ask(
                unit=unit, remote=remote, instance=settings.instance,
                on_early=partial(delivery.begin, unit),
                has_idle_core=self._has_idle_core,
            )  # fmt: skip
            found = await self.keyed.ladder.resolve(ask)
            if isinstance(found, Result):
                await self._deliver(delivery, unit, found)
                self._offer(unit, found, remote)
                return
            reason, draft = found.reason, found.draft
        except (CompileHere, NotUnderstood) as error:
            reason, draft = str(error), None
        except DistbuildError as error:
            reason, draft = f"the result could not be used: {error}", None
        except OSError as error:
            reason, draft = f"the result could not be used: {trouble(error)}", None
        self.parts.remotes.warn_if_down(settings, self.call, self.reply.tell_user)
        if not self.reply.is_ended:
            server = remote if isinstance(remote, Remote) else None
            own = OwnCompile(
                parts=self.parts, keyed=self.keyed, call=self.call, reply=self.reply,
                has_early=delivery.early is not None,
            )  # fmt: skip
            await self._compile_here(own, unit, draft, reason, server)

    async def _compile_here(
        self, own: OwnCompile, unit: Unit, draft: Draft | None, reason: str, server: Remote | None
    ) -> None:
        compiled, why_not_kept = await own.run(unit, draft)
        if why_not_kept is not None:
            reason = not_kept(reason, why_not_kept)
        # cargo may end the build as soon as it goes on
        stat = self._count(unit.invocation, "local", reason=reason)
        if compiled is not None:
            own.submit(await own.seen(compiled), stat, server)

    def _unit(self, invocation: Invocation) -> Unit:
        """Raises OutsideRoots."""
        environment = self.call.environment
        try:
            roots = self.keyed.collector.roots(invocation, self.call.cwd, environment)
        except NotUnderstood as error:
            raise OutsideRoots(str(error)) from error
        # cargo by itself with the wrapper has builds too
        named = {"DISTBUILD_BUILD": build_of(self.call)}
        environment = _of_unit(environment, roots.target) | named
        return Unit(invocation=invocation, roots=roots, environment=environment)

    def _offer(self, unit: Unit, found: Result, remote: Remote | str | None) -> None:
        """Have the server get what is here already, when there is time."""
        if isinstance(remote, Remote) and found.outcome == "hit-local":
            notes = partial(self.keyed.ladder.notes, unit, found)
            offered = Offer(action=found.action, result=found.action_result, notes=notes)
            self.keyed.keeper.submit_other(offer(self.parts.local, remote, offered))

    def _has_idle_core(self) -> bool:
        """Only where cargo's jobs were raised to the pool: else all that cargo starts is meant for
        the workers, which may be on this machine."""
        return is_raised(self.call) and self.parts.here.has_idle_core()

    async def _deliver(self, delivery: Delivery, unit: Unit, result: Result) -> None:
        messages = await delivery.whole(unit, result)
        made_in = made_in_seconds(result.action_result)
        self._count(unit.invocation, result.outcome, worker=result.worker, made_in=made_in)
        self.reply.finish(stdout=result.stdout, stderr=messages, exit_code=0)

    def _count(
        self,
        invocation: Invocation | None,
        outcome: str,
        *,
        worker: str | None = None,
        reason: str | None = None,
        made_in: float | None = None,
    ) -> UnitStat:
        kind = unit_kind(invocation) if invocation else "other"
        unit = self.tally.unit(kind, outcome, worker=worker, reason=reason, made_in=made_in)
        crate = self.call.environment["CARGO_CRATE_NAME"]
        subject = Subject.of(invocation) if invocation else Subject.unknown(crate)
        self.parts.journal.ended(subject, Ended.of(unit, crate, build_of(self.call)))
        return unit


def _of_unit(environment: dict[str, str], target: str) -> dict[str, str]:
    """A unit's variables without an OUT_DIR of another's, which cargo hands on where a test runs
    cargo: the package has no build script then."""
    if is_below(environment.get("OUT_DIR", target), (target,)):
        return environment
    return {name: value for name, value in environment.items() if name != "OUT_DIR"}
