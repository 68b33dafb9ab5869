"""The reconcile loop of one group: observe, plan, submit, report; then wait for an event, or for the poll interval.

The loop is level-triggered: each cycle starts from the observed state, not from earlier actions. A failed cycle is
reported and does not end the loop; the next cycle observes again.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Collection, Sequence

import msgspec

from infrakit.gate.authority import Epoch, NotBegun
from infrakit.gate.gate import CALL_DEADLINE_S, Gate
from infrakit.gate.guard import Guard
from infrakit.group import override
from infrakit.group import plan as planning
from infrakit.group.account import Account
from infrakit.group.actions import Blocked, GroupPhase, Plan, Settle, StopRollout
from infrakit.group.attachments import AttachmentsProber
from infrakit.group.calls import Calls
from infrakit.group.calls.caller import CallingGroup, error_text
from infrakit.group.census import CensusKeeper
from infrakit.group.concerns import concerns
from infrakit.group.deletion import VolumesDeletion
from infrakit.group.durations import Durations
from infrakit.group.elsewhere import Elsewhere
from infrakit.group.executor import Executor
from infrakit.group.guarded import guarded
from infrakit.group.inspecting import inspect_each
from infrakit.group.ledger import CensusStore, Ledger, ManagerCallbacks
from infrakit.group.orders import Eviction
from infrakit.group.plan import DesiredState, foreign, progress
from infrakit.group.probers import HealthProber, MembershipProber
from infrakit.group.reporter import Reporter
from infrakit.group.state import tags
from infrakit.group.state.backoff import BackoffPolicy
from infrakit.group.state.member import Member
from infrakit.group.state.others import Others
from infrakit.group.state.view import GroupView
from infrakit.group.voters import VotersProber
from infrakit.spi import errors, values
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event, Kind
from infrakit.spi.flavor import Flavor, Members, Voters
from infrakit.spi.group import seconds
from infrakit.spi.values import Description, GroupID, InstanceID, Slot

CYCLE_GAP_S = 0.05  # minimum delay between two cycles, whatever the rate of events
CYCLE_SHARE_MAX = 0.5  # maximum share of time that cycles of one group may use
REPLAN_S = 30.0  # maximum age of a plan, even if nothing has changed


class Controller:
    """Reconciles one group with its declaration, from `run` until cancelled."""

    def __init__(
        self,
        *,
        want: DesiredState,
        account: Account,
        flavor: Flavor,
        ledger: Ledger,
        censuses: CensusStore,
        identity: Callable[[], str],
        elsewhere: Elsewhere,
        callbacks: ManagerCallbacks,
        clock: Clock,
        random: random.Random,
        emit: Callable[[Event], object],
        poll_s: float,
        is_self: Callable[[Member], bool] = lambda _member: False,
    ) -> None:
        self.want = want
        self.account = account
        self.flavor = flavor
        self.poll_s = poll_s
        self.plan = Plan()
        self.planned_at: float | None = None
        self.others: Sequence[Description] = ()  # instances that are no members: `Account.foreign`, `group.elsewhere`
        self.began_at = math.inf  # loop time at which the newest cycle began
        self.cycles = Durations()
        self._ledger = ledger
        self._guard = Guard()
        self._gate = Gate(Epoch(ledger, lambda: self.want.orders.halt), guard=self._guard, timed=account.timed)
        self._identity = identity
        self._elsewhere = elsewhere
        self._callbacks = callbacks
        self._clock = clock
        self._is_self = is_self
        self._random = random
        self._health_prober = HealthProber(flavor)
        self._membership_prober = MembershipProber()
        self._voters_prober = VotersProber()
        self._attachments_prober = AttachmentsProber()
        self._awake = asyncio.Event()
        self._planned: DesiredState | None = None
        self._planned_revision = -1
        self._cycle_error = ""  # why the last cycle failed
        self._evicted: dict[InstanceID, Eviction] = {}  # still stored, although their instance has terminated
        self.view = self._empty_view()
        self._others = Others(group=self.view.group, lag_s=self.view.lag_s, can_inspect=self.view.can_inspect)
        self._reporter = Reporter(self.view, emit)
        self._census = CensusKeeper(
            store=censuses, provider=account.name, identity=identity, view=self.view, guard=self._guard
        )
        self._volumes = VolumesDeletion(
            account=account, flavor=flavor, gate=self._gate, want=lambda: self.want, report=self._reporter.event
        )
        calling = CallingGroup(
            account=account,
            flavor=flavor,
            gate=self._gate,
            view=self.view,
            emit=emit,
            want=lambda: self.want,
            live=self._possibly_live,
            callbacks=callbacks,
        )
        self.executor = Executor(account=account, calls=Calls(calling), ledger=ledger, view=self.view, wake=self.wake)

    @property
    def name(self) -> GroupID:
        return self.want.group.name

    @property
    def is_current(self) -> bool:
        """Whether the plan is for the current declaration and commands."""
        return self._planned is self.want

    @property
    def blocked(self) -> tuple[Blocked, ...]:
        """The blocked actions of the plan, and the error of the last cycle if it failed."""
        if not self._cycle_error:
            return self.plan.blocked
        why, remedy = f"the last cycle failed: {self._cycle_error}", "fix the cause; it is retried every cycle"
        return (*self.plan.blocked, Blocked(subject=self.name, reason=why, rule="cycle-failed", remedy=remedy))

    # -- interface -------------------------------------------------------------------------------------------------

    def wake(self, _why: str) -> None:
        """Start the next cycle soon."""
        self._awake.set()

    def declare(self, want: DesiredState) -> None:
        """Adopt a new declaration or new commands. From now on, no action of the previous plan is started."""
        stored = want.orders.evictions
        self._evicted = {each: command for each, command in self._evicted.items() if stored.get(each) == command}
        want = _without(want, self._evicted)
        self._volumes.forget()
        if msgspec.structs.replace(self.want, proven=want.proven) == want:
            self._planned = want if self.is_current else None  # nothing that the plan does depends on it
            self.want = want
            self.view.invalidate_plan()
            return
        if want.orders.resumed != self.want.orders.resumed:
            self.view.reset_backoffs()
            tags.forget(self.view)
        before = self.want
        self.view.declare(pets=want.group.is_pets, declared=want.pet_ids, version=want.hash, policy=self._backoff(want))
        self.want = want
        self.view.versions.retry_prepare()
        self._limit()
        self.executor.invalidate(lambda action: concerns(before, want, action))
        self.wake("declared")

    def _limit(self) -> None:
        """Set what the account has to know of the declaration."""
        self.account.limits[self.name] = self.want.group.properties.instance.max_in_flight
        (self.account.pets.add if self.want.group.is_pets else self.account.pets.discard)(self.name)

    async def run(self) -> None:
        """Reconcile until cancelled; then cancel every call in flight, and record its outcome as unknown."""
        loop = asyncio.get_running_loop()
        self.view.now = loop.time()
        self.account.join(self.name, self.executor, self.wake)
        self._limit()
        self._inherit(loop.time() + CALL_DEADLINE_S)
        try:
            while True:
                self._awake.clear()
                self.began_at = began = loop.time()
                with self.cycles.timed():
                    await self._cycle_safely()
                await self._wait_for_next_cycle(began)
        finally:
            self.account.leave(self.name, self.executor, self.wake)
            await self.executor.close()
            await self._health_prober.close()
            await self._membership_prober.close()
            await self._voters_prober.close()
            await self._attachments_prober.close()

    def _inherit(self, until: float) -> None:
        """Adopt the calls that the previous leader had begun, and that may take effect until loop time `until`."""
        self.view.inherit_destroys(self._ledger.destroying(self.name), until=until)
        self.view.track_member_list(exists=isinstance(self.flavor, Members))
        if self.view.membership is not None:
            self.view.membership.unknown(self._ledger.changing(self.name), until)

    async def _cycle_safely(self) -> None:
        try:
            await self.cycle()
        except errors.NotLeader:
            raise
        except Exception as error:
            self.view.invalidate_plan()  # its actions may not have been started
            if error_text(error) != self._cycle_error:
                self._cycle_error = error_text(error)
                self._reporter.event(Kind.ERROR, f"a cycle failed: {self._cycle_error}")
        else:
            self._cycle_error = ""

    async def _wait_for_next_cycle(self, began: float) -> None:
        loop = asyncio.get_running_loop()
        took_s = loop.time() - began
        gap_s = max(CYCLE_GAP_S, took_s * (1 / CYCLE_SHARE_MAX - 1) if took_s < 1.0 else CYCLE_GAP_S)
        await asyncio.sleep(gap_s)
        limit_s = max(0.0, min(self.poll_s, self.plan.next_check - loop.time()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._awake.wait()

    # -- one cycle -------------------------------------------------------------------------------------------------

    async def cycle(self) -> None:
        """Run one cycle: observe, plan, submit. Raises what the ledger raises."""
        self.view.now = asyncio.get_running_loop().time()
        await self._census.open()
        self._adopt_intents()  # first: `observe` reports the instances that they may have created to the flavor
        await self.observe()
        now = asyncio.get_running_loop().time()
        fresh = self.planned_at is not None and now < min(self.planned_at + REPLAN_S, self.plan.next_check)
        if fresh and self._planned_revision == self.view.revision:
            await self._census.keep(self.plan)
            return
        await self._decide()
        if any(isinstance(a, Settle) for a in self.plan.actions):
            await self._decide()  # their slots are free now, which needs no other observation

    async def _decide(self) -> None:
        """Plan from what has been observed, and start the plan."""
        want, now = self.want, asyncio.get_running_loop().time()
        self.view.now = now
        plan = guarded(planning.decide(want, self.view, self.others), self._guard, want, self.view)
        self._track_rollout(plan)
        tags.remember(self.view, plan.blocked)
        self._planned, self._planned_revision = want, self.view.revision
        self.plan, self.planned_at = plan, now
        self._reporter.plan(plan, size=want.size)
        plan = self.plan = await self._census.keep(plan)
        if not self.is_current:
            return  # while the census was written, something else was declared
        await self.executor.submit(plan)
        await self._apply_decisions(plan, want)

    def _adopt_intents(self) -> None:
        """Add recorded intents that the view lacks: of the previous leader, or of a write whose response was lost."""
        recorded, pending = self._ledger.intents(self.name), self.view.pending
        adopted = {slot: intent for slot, intent in recorded.items() if slot not in pending}
        self.view.intend(adopted, fresh=False, effect_s=CALL_DEADLINE_S)
        for intent in adopted.values():  # once, however often leaders change: the census does not count them
            self._guard.inherit(intent.token, self.view.now)

    async def observe(self) -> None:
        """Update the view from the provider and the flavor. A failure is reported, and leaves the view unchanged."""
        loop, view = asyncio.get_running_loop(), self.view
        try:
            listing, begun_at = await self.account.listing(self.name, not_before=loop.time())
        except errors.Throttled as throttled:
            self._observation_failed(f"the provider throttles its listing ({throttled})", Kind.THROTTLED)
            return
        except Exception as error:
            self._observation_failed(f"the listing failed ({error_text(error)})", Kind.OBSERVE_FAILED)
            return
        self._note_others(begun_at)
        listing = self._others.without(listing)
        new = view.listed(listing, begun_at=begun_at, now=loop.time(), wall=self._clock.now())
        view.disown(foreign.of_group(self.others, self.name))
        tags.recognise(view, new)
        for member in new:
            self._on_discovered(member)
        self._report_vanished(view.known.pop_vanished())
        await self._inspect()
        if (terminated := view.terminated()) or view.replaced:
            await self.executor.await_responses(terminated)
            self._remove_terminated(view.pop_terminated())
        self._reporter.missing()
        view.presume_absent()
        view.expire_inherited(at_once=self.want.orders.destroying is not None)
        view.retry_destroys()
        identified = bool(self._identity())  # verified before this listing
        if self._guard.same_account(view.now, lag_s=view.lag_s, identified=identified):
            view.invalidate_plan()
        self._start_membership_poll()
        group = self.want.group
        declared = await self._attachments_prober.result(self.flavor, group)
        if declared is not None:
            view.attach(declared, group.hash)
        tags.identify(view)
        tags.correct(view)
        await self._poll_health()
        await self._poll_membership()
        await self._poll_voters()
        view.now = loop.time()
        view.expire_backoffs()

    def _observation_failed(self, problem: str, kind: Kind) -> None:
        if self.view.problem != problem:
            self._reporter.event(kind, problem)
        self.view.failed(problem, asyncio.get_running_loop().time())

    async def _inspect(self) -> None:
        """Inspect, one by one, the instances whose absence from the listing does not prove their termination."""
        unconfirmed = list(self.view.unconfirmed()) if self.view.pending or self.view.members else []
        unconfirmed += self._others.unconfirmed(self.want.logical_ids)
        inspects = self.account.inspects
        if unconfirmed and inspects is not None:
            self._random.shuffle(unconfirmed)  # if the time is up, the rest has its turn in another cycle
            await inspect_each(inspects, unconfirmed, self._inspected)

    def _inspected(self, instance: InstanceID, description: Description | None) -> None:
        self.view.inspected(instance, description)
        if self._others.inspected(instance, description):
            self.wake("an instance of another group or cluster has terminated")

    def _remove_terminated(self, terminated: list[Member]) -> None:
        for member in terminated:
            eviction = self.want.orders.eviction(member.id, member.description.tags)
            if eviction is not None and not eviction.incarnation:  # else later instances are not concerned anyway
                self._evicted[member.id] = eviction
                self.want = _without(self.want, self._evicted)
            requested = eviction is not None or member.was_requested_to_end(
                self.view.now, effect_s=CALL_DEADLINE_S + self.view.lag_s
            )
            if member.vanished and not requested:
                self._guard.vanished(member.id, member.slot, self.view.now)
            if member.ended_before:
                continue  # it has been reported
            cause, where = self.account.termination_cause(member.id)
            if member.start_error and not member.is_proven:
                cause = f": its creation failed: {member.start_error}"  # explains more than that it was removed
            how = (
                "destroyed as requested; termination confirmed"
                if requested
                else f"terminated (confirmed by the provider){cause}"
            )
            self._reporter.event(Kind.TERMINATED, how, member=member)
            self.view.record_termination(member, f"{member.id} terminated{cause}{where}", requested=requested)

    def _report_vanished(self, slots: Collection[Slot]) -> None:
        """Record members of cattle that the previous leader knew, and that have not been listed for the lag."""
        for slot in slots if self.want.orders.destroying is None else ():  # the previous leader has destroyed some
            self._guard.vanished(InstanceID(""), slot, self.view.now)
        if slots:
            self._reporter.event(Kind.MISSING, f"{len(slots)} known members not listed since this leader took over")

    async def _poll_health(self) -> None:
        descriptions = [m.description for m in self.view.members.values() if m.missing_since is None]
        properties = self.want.group.properties.flavor.properties
        for requested_at, reports in await self._health_prober.verdicts(properties, descriptions):
            for member in self.view.judged(reports, requested_at):
                self._reporter.health(member)

    def _start_membership_poll(self) -> None:
        flavor, view, group = self.flavor, self.view, self.want.group
        view.track_member_list(exists=isinstance(flavor, Members))
        if isinstance(flavor, Members):
            self._membership_prober.start(
                flavor, group.properties.flavor.properties, self._possibly_live(), group.properties.allocation.to_wire()
            )

    def _possibly_live(self) -> list[Description]:
        """All possibly live instances with the group's tag: one whose cluster is not adopted yet may be on its list."""
        return [*self.view.possibly_live(), *foreign.of_group(self.others, self.name)]

    async def _poll_membership(self) -> None:
        result = await self._membership_prober.result()
        if result is not None:
            requested_at, needs = result
            self.view.needs(needs, requested_at)

    async def _poll_voters(self) -> None:
        """Give the guard the voters of a quorum, as the cluster itself lists them."""
        if not isinstance(self.flavor, Voters) or not self.want.quorum:
            return
        group, instances = self.want.group, [member.description for member in self.view.members.values()]
        self._voters_prober.start(
            self.flavor, group.properties.flavor.properties, instances, group.properties.allocation.to_wire()
        )
        result = await self._voters_prober.result()
        if result is not None and self._guard.list_voters(result[1], result[0]):
            self.view.invalidate_plan()

    @property
    def can_lose(self) -> str:
        """What a quorum can still lose, as a sentence; empty for any other group, and if its flavor lists no voters."""
        return self._guard.can_lose(asyncio.get_running_loop().time()) if self.want.quorum else ""

    # -- decisions of a plan that are not calls of the executor ----------------------------------------------------

    async def _apply_decisions(self, plan: Plan, want: DesiredState) -> None:
        for action in plan.actions:
            if isinstance(action, StopRollout):
                await self._callbacks.stop_rollout(
                    self.name, hash=action.hash, rollback=action.rollback, why=action.reason
                )
        if plan.proves:
            await self._callbacks.proven(self.name, hash=want.group.hash)
        if self._evicted and self.executor.idle:  # a change of the declaration cancels drains
            await self._callbacks.evicted(self.name, dict(self._evicted))  # until that is stored
        if ended := override.ended(want.orders, self.view):
            await self._callbacks.recovered(self.name, ended)
        if want.orders.destroying is not None:
            await self._end_destroying(want)

    async def _end_destroying(self, want: DesiredState) -> None:
        if self._guard.why_unproven:
            return  # the plan reports it
        if not self.view.is_proven_empty() or not self.executor.idle:
            if self.view.empty_since is not None:
                self.view.invalidate_plan()  # plan again: the next listing may be the proof
            return
        try:
            if want.orders.volumes and await self._volumes.delete_next(want, self.others):
                self.view.invalidate_plan()
                self.wake("a volume is deleted")
                return
        except NotBegun:
            return  # the next plan reports a halt, follows a new declaration, or continues
        await self._callbacks.destroyed(self.name)

    def _track_rollout(self, plan: Plan) -> None:
        view, version = self.view, self.want.group.hash
        progress.track(self.want, view, plan)
        if plan.phase is GroupPhase.ROLLING and view.rolling_to != version:
            view.rolls_to(version)
            self._reporter.event(Kind.ROLLOUT, f"rolling update to version {version[:8]} started")
        elif view.rolling_to and plan.phase is GroupPhase.CONVERGED:
            view.rolls_to("")
            self._reporter.event(Kind.ROLLOUT, f"rolling update to version {version[:8]} completed")

    def _empty_view(self) -> GroupView:
        return GroupView(
            group=self.want.group.name,
            pets=self.want.group.is_pets,
            declared=self.want.pet_ids,
            version=self.want.hash,
            policy=self._backoff(self.want),
            lag_s=self.account.capabilities.listing_lag_s,
            can_inspect=self.account.inspects is not None,
            is_self=self._is_self,
        )

    def _backoff(self, want: DesiredState) -> BackoffPolicy:
        healing = want.group.properties.healing
        return BackoffPolicy(
            first_s=seconds(healing.backoff),
            longest_s=seconds(healing.backoff_max),
            jitter=lambda: 0.75 + self._random.random() / 2,
        )

    # -- events ---------------------------------------------------------------------------------------------------

    def _on_discovered(self, member: Member) -> None:
        member.identify(is_self=self._is_self(member))
        if math.isinf(member.hash_set_at):  # the previous leader may have requested one of these labels
            declared = (self.want.group, self.want.previous, self.want.proven)
            until = self.view.now + CALL_DEADLINE_S + self.view.lag_s
            member.label_requested(*(each.hash for each in declared if each is not None), until=until)
        if member.token is None or member.hash == values.BOOTSTRAP:
            self._reporter.event(Kind.ADOPTED, "adopted: it carries the group's tag", member=member)

    def _note_others(self, listed_from: float) -> None:
        """Adopt which instances belong to others; report those of other clusters once; replan if they have changed."""
        account, want = self.account, self.want
        self._others.listed(
            account.foreign(self.name),
            everything=account.everything,
            ours=account.clusters,
            declared=want.logical_ids,
            begun_at=listed_from,
        )
        others = self._others.all(self._elsewhere(listed_from) if want.group.is_pets else ())
        if others is self.others:
            return
        self._reporter.foreign(others, before=self.others)
        if others != self.others:
            self.view.invalidate_plan()
        self.others = others


def _without(want: DesiredState, evicted: Collection[InstanceID]) -> DesiredState:
    """Omit the commands to destroy instances that have terminated: a later one with the same ID is another one."""
    if not evicted:
        return want
    evictions = {each: command for each, command in want.orders.evictions.items() if each not in evicted}
    return msgspec.structs.replace(want, orders=msgspec.structs.replace(want.orders, evictions=evictions))
