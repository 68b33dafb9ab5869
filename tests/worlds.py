"""Builders for the planner's tests: a declaration and an observed view, each in one line."""

import msgspec

from infrakit.group.actions import Plan
from infrakit.group.ledger import Intent
from infrakit.group.orders import Orders
from infrakit.group.plan import DesiredState
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Leaving, Member
from infrakit.group.state.view import GroupView
from infrakit.spi import values
from infrakit.spi.group import DeclaredAllocation, FlavorRef, Group, GroupProperties, Healing, InstanceRef, Updating
from infrakit.spi.values import Description, GroupID, Health, HealthReport, InstanceID, LogicalID, Slot, State, Token

NEW, OLD = "newnewnew", "oldoldold"
NOW = 1000.0

REPORTS = {
    Health.HEALTHY: HealthReport(health=Health.HEALTHY),
    Health.UNHEALTHY: HealthReport(health=Health.UNHEALTHY, note="http 500"),
    Health.UNKNOWN: HealthReport(health=Health.UNKNOWN),
}


def declared(
    size: int | None = None,
    ids: str = "",
    *,
    updating: Updating | None = None,
    healing: Healing | None = None,
    version: str = NEW,
) -> Group:
    """A group of cattle by `size`, or of pets by `ids`: "a b c"."""
    allocation = DeclaredAllocation(
        size=size, logical_ids=tuple(LogicalID(i) for i in ids.split()) if size is None else None
    )
    return Group(
        name=GroupID("g"),
        properties=GroupProperties(
            allocation=allocation,
            instance=InstanceRef(plugin="simulator"),
            flavor=FlavorRef(plugin="vanilla"),
            updating=updating or Updating(settle="10s"),
            healing=healing or Healing(boot_grace="60s", unhealthy_after="30s"),
        ),
        hash=version,
    )


def want(
    size: int | None = None,
    ids: str = "",
    *,
    quorum: bool = False,
    orders: Orders | None = None,
    tokens: bool = True,
    previous: str = OLD,
    updating: Updating | None = None,
    healing: Healing | None = None,
) -> DesiredState:
    group = declared(size, ids, updating=updating, healing=healing)
    before = msgspec.structs.replace(group, hash=previous) if previous else None
    return DesiredState(group=group, orders=orders or Orders(), quorum=quorum, tokens=tokens, previous=before)


def view(*members: Member, pets: bool = False, lag_s: float = 0.0, can_inspect: bool = True) -> GroupView:
    """A complete and current observation of these members."""
    return GroupView(
        group=GroupID("g"),
        pets=pets,
        lag_s=lag_s,
        can_inspect=can_inspect,
        now=NOW,
        observed_at=NOW,
        problem="",
        members={m.id: m for m in members},
        attachments_of=NEW,
    )


def member(
    slot: str | None,
    health: Health = Health.HEALTHY,
    *,
    name: str = "",
    version: str = NEW,
    age_s: float = 500.0,
    seen_s: float | None = None,
    since_s: float | None = None,
    leaving: str = "",
    missing_s: float | None = None,
    is_self: bool = False,
    pets: bool = False,
    state: State = State.UNSPECIFIED,
    has_returned: bool = False,
) -> Member:
    """A member that has had this health for `since_s`, seen for `seen_s` (default for both: since its creation)."""
    instance = InstanceID(name or f"i-{slot}")
    since = NOW - (age_s if since_s is None else since_s)
    tags = {values.TAG_GROUP: "g", values.TAG_HASH: version}
    return Member(
        description=Description(id=instance, tags=tags, logical_id=LogicalID(slot) if pets and slot else None),
        id=instance,
        slot=Slot(slot) if slot else None,
        logical_id=LogicalID(slot) if pets and slot else None,
        hash=version,
        token=None,
        created_at=NOW - age_s,
        seen_at=NOW - (age_s if seen_s is None else seen_s),
        has_returned=has_returned,
        state=state,
        report=REPORTS[health],
        judged_at=NOW,
        healthy_since=since if health is Health.HEALTHY else None,
        unhealthy_since=since if health is Health.UNHEALTHY else None,
        leaving=Leaving(leaving),
        missing_since=None if missing_s is None else NOW - missing_s,
        is_self=is_self,
    )


def pet(logical_id: str | None, health: Health = Health.HEALTHY, **more: object) -> Member:
    return member(logical_id, health, pets=True, **more)  # type: ignore[arg-type]


def pending(phase: str = "recorded", *, ended_s: float = 0.0, **more: object) -> Creation:
    """An unresolved intent whose last call ended `ended_s` ago."""
    intent = Intent(token=Token("t"), hash=NEW, at=0.0)
    creation = Creation(intent=intent, phase=Phase(phase), ended_at=NOW - ended_s)
    for name, value in more.items():
        setattr(creation, name, value)
    return creation


def with_orders(base: DesiredState, **orders: object) -> DesiredState:
    return msgspec.structs.replace(base, orders=msgspec.structs.replace(base.orders, **orders))


def verbs(plan: Plan) -> list[tuple[str, str]]:
    return [(a.verb, a.subject) for a in plan.actions]


def rules(plan: Plan) -> set[str]:
    return {h.rule for h in plan.blocked}
