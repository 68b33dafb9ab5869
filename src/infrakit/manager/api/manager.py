"""The operator's interface: satisfies `spi.manager.Manager` on top of a replica."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import msgspec

from infrakit.group import report
from infrakit.group.controller import Controller
from infrakit.group.forecast import foresee
from infrakit.group.orders import Eviction, incarnation
from infrakit.manager.api import logs
from infrakit.manager.api.explain import EventHistory, explain
from infrakit.manager.declaration import changes, consent, ownership, quorums, recheck, validate
from infrakit.manager.declaration.record import DeclarationRecord, RecordChange
from infrakit.manager.lead.ledger import LedgerDocument
from infrakit.manager.lead.replica import Replica
from infrakit.manager.lead.term import Term
from infrakit.spec import diff, document
from infrakit.spi import errors, names
from infrakit.spi.event import timestamp
from infrakit.spi.group import Group
from infrakit.spi.instance import Instance, LogPart, Logs, Tails
from infrakit.spi.manager import (
    Committed,
    Explanation,
    GroupPlan,
    GroupStatus,
    Halt,
    LeaderStatus,
    MemberStatus,
    Planned,
    Status,
    Verdict,
    Version,
)
from infrakit.spi.token import cluster_of
from infrakit.spi.values import GroupID, InstanceID

STORE_TIMEOUT_S = 6.0  # for reading the leader: longer than a slow store takes, shorter than the command line's timeout
LOG_LINES_MAX = 10_000
IN_PLACE = "update in place"  # in the summary of a forecast
HISTORY_MAX = 1000


class Operator:
    """Answers the requests of operators at one replica; `stop` stops the daemon."""

    def __init__(self, replica: Replica, *, history: EventHistory, stop: Callable[[], None]) -> None:
        self._replica = replica
        self._history = history
        self._stop = stop

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> object:
        """A value that changes with what `status` and `members` report, except with time. Much cheaper than both."""
        replica, term = self._replica, self._replica.term
        controllers = term.controllers.items() if term is not None else ()
        groups = tuple((name, each.want, each.view.revision, each.planned_at) for name, each in controllers)
        unmanaged = tuple(term.unmanaged.items()) if term is not None else ()
        return replica.active.is_set(), replica.why_not_active, replica.declaration.version, groups, unmanaged

    async def status(self) -> Status:
        replica, record = self._replica, self._replica.declaration.record
        term = replica.term
        groups: list[GroupStatus] = []
        for name in sorted(record.groups):
            controller = term.controllers.get(name) if term is not None else None
            if controller is not None:
                groups.append(report.group_status(controller, replica.clock))
            elif term is not None:
                why = term.unmanaged.get(name, "its plugins have not answered yet")
                groups.append(report.unmanaged(record.groups[name], record.orders_of(name), why))
        last, note = replica.last_read, "" if replica.active.is_set() else replica.why_not_active
        if last is not None and note:  # shown, and never acted on
            record, note = last.declaration, f"{note}; {last.sentence}"
        halts = [h for h in (record.halt, *(o.halt for o in record.orders.values())) if h is not None]
        return Status(
            leader=replica.active.is_set(),
            replica=replica.name,
            epoch=term.ledger.epoch if term is not None else 0,
            version=replica.declaration.version,
            pid=os.getpid(),
            started=replica.started,
            now=timestamp(replica.clock.now()),
            halts=tuple(halts),
            groups=tuple(groups),
            note=note,
            clusters=tuple(sorted(term.clusters)) if term is not None else (),
        )

    async def leader(self) -> LeaderStatus:
        """Return the leader by the ledger, and this replica's own observation even if the ledger is unreadable."""
        replica, contents, note = self._replica, LedgerDocument(), ""
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                contents = await replica.peek()
        except TimeoutError:
            note = f"the store has not answered for {STORE_TIMEOUT_S:g} s"
        except errors.InfraKitError as error:
            note = f"the store cannot be read: {error}"
        observed = replica.observation
        return LeaderStatus(
            leader=contents.leader,
            epoch=contents.epoch,
            since=timestamp(contents.since) if contents.since else "",
            replica=replica.name,
            observed=(observed.note or observed.who or "this node leads") if observed is not None else "nothing yet",
            observed_age_s=asyncio.get_running_loop().time() - observed.begun_at if observed is not None else None,
            note=note,
        )

    async def why(self, *, group: GroupID, subject: str = "") -> Explanation:
        return explain(self._controller(group), subject, self._history, self._replica.clock)

    async def members(self, *, group: GroupID | None = None) -> tuple[MemberStatus, ...]:
        if group is not None:
            return tuple(report.members(self._controller(group)))
        controllers = self._term().controllers
        return tuple(m for name in sorted(controllers) for m in report.members(controllers[name]))

    async def logs(self, *, instance: InstanceID, lines: int = 100) -> str:
        lines = max(1, min(lines, LOG_LINES_MAX))

        def ask(provider: Instance) -> Awaitable[str] | None:
            return provider.logs(instance=instance, lines=lines) if isinstance(provider, Logs) else None

        return await logs.from_provider(self._term(), instance, ask, "store the output of its instances")

    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 100) -> LogPart:
        lines = max(1, min(lines, LOG_LINES_MAX))

        def ask(provider: Instance) -> Awaitable[LogPart] | None:
            if not isinstance(provider, Tails):
                return None
            return provider.tail(instance=instance, after=after, lines=lines)

        return await logs.from_provider(self._term(), instance, ask, "follow the output of its instances")

    async def history(self, *, limit: int = 50) -> tuple[Version, ...]:
        return await self._replica.declaration.history(max(1, min(limit, HISTORY_MAX)))

    async def show(self, *, version: int) -> str:
        record = await self._replica.declaration.at(version)
        return document.render([record.groups[name] for name in sorted(record.groups)])

    # -- the declaration -------------------------------------------------------------------------------------------

    async def commit(
        self,
        *,
        text: str,
        source: str,
        who: str,
        why: str,
        expected: int | None = None,
        destroys: int = 0,
        adopts: str = "",
    ) -> Committed:
        command = consent.command("commit", source, "" if why in (f"commit {source}", f"up {source}") else why)
        for attempt in range(1, recheck.ATTEMPTS_MAX + 1):
            others = self._replica.declaration.record.groups
            groups = await self.checked(text, source)
            change = recheck.while_unchanged(await self.consented(groups, destroys, command, adopts), groups, others)
            try:
                return await self._replica.change(change, what="commit", who=who, why=why, expected=expected)
            except recheck.OthersChanged:
                if attempt == recheck.ATTEMPTS_MAX:
                    raise
        raise AssertionError

    async def consented(self, groups: tuple[Group, ...], destroys: int, command: str, adopts: str = "") -> RecordChange:
        """Return the change that declares these groups, and refuses to destroy many members without consent.

        `command` is the command line that the error completes.
        """
        is_quorum = await self._quorums(groups)
        return consent.with_consent(ownership.declare(groups, adopts), destroys, is_quorum=is_quorum, command=command)

    async def _quorums(self, groups: tuple[Group, ...]) -> consent.IsQuorum:
        declared = self._replica.declaration.record.groups
        before = [declared[group.name] for group in groups if group.name in declared]
        return await quorums.classify((*groups, *before), self._replica.plugins)

    async def plan(self, *, text: str, source: str) -> Planned:
        term, before = self._term(), self._replica.declaration.record
        after, losses = before, tuple[consent.Loss, ...]()
        if text.strip():
            declared = await self.checked(text, source)
            after = changes.declare(declared)(before)
            losses = consent.losses(before.groups, after.groups, await self._quorums(declared))
        number = consent.needed(losses)
        command = consent.command("commit", source)
        names = [n for n in after.groups if not text.strip() or after.groups[n] != before.groups.get(n)]
        plans = [await self._forecast(term, after.groups[name], after) for name in sorted(names)]
        return Planned(
            base_version=self._replica.declaration.version,
            changes=diff.changes(tuple(before.groups.values()), tuple(after.groups.values())),
            groups=tuple(plans),
            destroys=number,
            consent=f"{consent.sentence(losses)}; {consent.remedy(command, number)}" if number else "",
        )

    async def checked(self, text: str, source: str) -> tuple[Group, ...]:
        """Return the groups of a document, validated as for a commit. Raises `InvalidSpec`."""
        others = tuple(self._replica.declaration.record.groups.values())
        return await validate.checked(text, source, self._replica.plugins, others=others)

    async def _forecast(self, term: Term, group: Group, record: DeclarationRecord) -> GroupPlan:
        want = await term.want(group, record)
        controller = term.controllers.get(group.name)
        if controller is None:
            view, others = await term.list_unmanaged(group)
        else:
            if controller.view.problem:
                await controller.observe()
            view, others = controller.view, controller.others
        foreseen = foresee(want, view, others)
        lines = report.forecast_lines(foreseen.actions)
        verbs = {verb: verb for verb in ("create", "replace", "destroy", "label", "change")} | {"update": IN_PLACE}
        counts = {what: sum(line.verb == verb for line in lines) for verb, what in verbs.items()}
        summary = ", ".join(f"{count} to {what}" for what, count in counts.items() if count) or "nothing to do"
        waiting = tuple(report.blocked_line(h, self._replica.clock) for h in foreseen.last.blocked)
        destroys = any(line.verb in ("replace", "destroy") for line in lines)
        lowest = f"{foreseen.lowest} of {want.size} healthy" if destroys and want.size else ""
        return GroupPlan(group=group.name, summary=summary, lowest=lowest, actions=tuple(lines), waiting=waiting)

    async def restore(
        self, *, version: int, who: str, why: str, expected: int | None = None, destroys: int = 0
    ) -> Committed:
        record = await self._replica.declaration.at(version)
        groups = tuple(record.groups.values())
        if groups:
            await self.checked(document.render(groups), f"version {version}")
        change = await self.consented(groups, destroys, consent.command("restore", str(version), why))
        return await self._replica.change(change, what="restore", who=who, why=why, expected=expected)

    async def scale(self, *, group: GroupID, size: int, who: str, why: str, expected: int | None = None) -> Committed:
        return await self._replica.change(changes.scale(group, size), what="scale", who=who, why=why, expected=expected)

    async def adopt(self, *, cluster: str, who: str, why: str) -> Committed:
        note = self._adoption_note(cluster)
        return _noted(await self._replica.change(ownership.adopt(cluster), what="adopt", who=who, why=why), note)

    def _adoption_note(self, cluster: str) -> str:
        """Return a warning that the name may be wrong: it is that of no instance; empty otherwise."""
        term = self._replica.term
        if term is None:
            return f"whether {cluster} names any instance was not checked: this replica does not lead"
        if cluster in {cluster_of(each.tags) for group in term.controllers.values() for each in group.others}:
            return ""
        return f"no instance of a declared group belongs to the cluster {cluster} now; infrakit why GROUP shows names"

    async def adopt_account(self, *, plugin: str, identity: str, who: str, why: str) -> Committed:
        change = ownership.adopt_account(plugin, identity)
        unknown = await self._term().refuse_other_account(plugin, identity)
        note = f"the identity was not checked: {unknown}; if it differs, the groups wait until it is adopted"
        return _noted(await self._replica.change(change, what="adopt", who=who, why=why), note if unknown else "")

    async def free(self, *, group: GroupID, who: str, why: str) -> Committed:
        return await self._replica.change(changes.free(group), what="free", who=who, why=why)

    async def destroy(self, *, group: GroupID, who: str, why: str, volumes: bool = False) -> Committed:
        change = changes.destroy(group, self._new_halt(group, who, why), volumes=volumes)
        return await self._replica.change(change, what="destroy", who=who, why=why)

    # -- commands --------------------------------------------------------------------------------------------------

    async def halt(self, *, group: GroupID | None = None, who: str, why: str) -> Committed:
        change = changes.halt(group, self._new_halt(group, who, why))
        return await self._replica.change(change, what="halt", who=who, why=why)

    async def unhalt(self, *, group: GroupID | None = None, who: str, why: str) -> Committed:
        return await self._replica.change(changes.halt(group, None), what="unhalt", who=who, why=why)

    async def pause(self, *, group: GroupID, who: str, why: str) -> Committed:
        return await self._stop_rollout(group, aborted=False, who=who, why=why)

    async def abort(self, *, group: GroupID, who: str, why: str) -> Committed:
        return await self._stop_rollout(group, aborted=True, who=who, why=why)

    async def _stop_rollout(self, group: GroupID, *, aborted: bool, who: str, why: str) -> Committed:
        when = timestamp(self._replica.clock.now())
        change = changes.stop_rollout(group, "", aborted=aborted, who=who, when=when, why=why)
        return await self._replica.change(change, what="abort" if aborted else "pause", who=who, why=why)

    async def resume(self, *, group: GroupID, who: str, why: str, despite_unhealthy: bool = False) -> Committed:
        unhealthy: dict[InstanceID, str] = {}
        if despite_unhealthy:
            members = report.members(self._controller(group))
            sick = {m.id: m.tags for m in members if m.health is Verdict.UNHEALTHY and m.id is not None}
            unhealthy = {instance: incarnation(sick[instance]) for instance in sorted(sick)}
        change = changes.resume(group, unhealthy, timestamp(self._replica.clock.now()))
        return await self._replica.change(change, what="resume", who=who, why=why)

    async def rollback(self, *, group: GroupID, who: str, why: str) -> Committed:
        return await self._replica.change(changes.rollback(group), what="rollback", who=who, why=why)

    async def destroy_instance(self, *, instance: InstanceID, who: str, why: str, replace: bool = True) -> Committed:
        controller = self._controller_of(instance)
        member = controller.view.members[instance]
        eviction = Eviction(who=who, when=timestamp(self._replica.clock.now()), why=why)
        change = changes.evict(
            controller.name,
            {instance: member.slot},
            eviction,
            replace=replace,
            incarnations={instance: incarnation(member.description.tags)},
            is_quorum=controller.want.quorum,
        )
        return await self._replica.change(change, what="destroy instance", who=who, why=why)

    async def resign(self, *, who: str, why: str) -> None:
        self._term()
        await self._replica.resign(who, why)

    async def forget(self, *, replica: str, who: str, why: str) -> None:  # noqa: ARG002
        raise errors.NotFound(f"there is no replica {replica!r}", remedy=f"{self._replica.name} is the only one")

    async def shutdown(self, *, who: str, why: str) -> None:
        self._replica.announce_stop(who, why)
        self._stop()

    # -- lookup ----------------------------------------------------------------------------------------------------

    def _new_halt(self, group: GroupID | None, who: str, why: str) -> Halt:
        return Halt(group=group, who=who, when=timestamp(self._replica.clock.now()), why=why)

    def _term(self) -> Term:
        term = self._replica.term
        if term is None:
            raise errors.NotLeader("this replica is not active", remedy="send the request to the leader")
        return term

    def _controller(self, group: GroupID) -> Controller:
        controllers = self._term().controllers
        if group not in controllers:
            self._replica.declaration.record.group(group)
            why = self._term().unmanaged.get(group, "its plugins have not answered yet")
            raise errors.Unreachable(f"group {group} is not managed yet: {why}", remedy="see: infrakit plugin ls")
        return controllers[group]

    def _controller_of(self, instance: InstanceID) -> Controller:
        controllers = self._term().controllers.values()
        for controller in controllers:
            if instance in controller.view.members:
                return controller
        known = [each for controller in controllers for each in controller.view.members]
        remedy = names.remedy(instance, known, listed="instances", otherwise="see: infrakit instance ls")
        raise errors.NotFound(f"no group has an instance {instance!r}", remedy=remedy)


def _noted(committed: Committed, note: str) -> Committed:
    """Return the answer with a note about a change that was made; an empty note is none."""
    if not note or committed.unchanged:
        return committed
    return msgspec.structs.replace(committed, notes=(*committed.notes, note))
