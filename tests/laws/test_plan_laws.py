"""Safety and liveness of plans: the laws hold for any declaration and any view, and plans converge."""

import copy
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infrakit.group.actions import ChangeMembership, Destroy, Label, Plan, Provision, Settle
from infrakit.group.forecast import forecast
from infrakit.group.orders import Eviction, Orders, RolloutStop
from infrakit.group.plan import DesiredState, decide
from infrakit.group.state.backoff import Backoff, replacement_key
from infrakit.group.state.membership import AGE_S_MAX, Membership
from infrakit.group.state.view import GroupView
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.group import Healing, Updating, amount
from infrakit.spi.manager import Halt
from infrakit.spi.values import BOOTSTRAP, Health, InstanceID, LogicalID, Slot, State
from tests import worlds
from tests.worlds import NEW, NOW, OLD

NAMES = ("a", "b", "c", "d", "e", "f")
BY_OPERATOR = {"operator", "destroy-group", "one-per-logical-id"}


@st.composite
def worlds_of_members(draw: st.DrawFn, *, calm: bool = False) -> tuple[DesiredState, GroupView]:
    """Draw a declaration and a view; `calm` omits states that only an operator or the provider can resolve."""
    pets = draw(st.booleans())
    quorum = pets and draw(st.booleans())
    surge = 0 if pets else draw(st.integers(0, 2))
    unavailable: list[int | str] = [1, 1, 2, "50%"] if surge == 0 else [0, 1, 2]
    updating = Updating(max_unavailable=draw(st.sampled_from(unavailable)), max_surge=surge)
    healing = Healing(max_unhealthy=draw(st.sampled_from([None, None, 0, 1, 2, "50%"])))
    orders = Orders()
    ids = " ".join(draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5)))
    size = draw(st.integers(0, 6))
    wanted = worlds.want(
        None if pets else size, ids, quorum=quorum, tokens=draw(st.booleans()), updating=updating, healing=healing
    )
    slots = NAMES if pets else tuple(str(n) for n in range(1, 9))
    members = [
        worlds.member(
            draw(st.sampled_from(slots if calm else [*slots, None])),
            draw(st.sampled_from([Health.HEALTHY] if calm else list(Health))),
            name=f"i-{number}",
            version=draw(st.sampled_from([NEW, OLD] if calm else [NEW, OLD, BOOTSTRAP, ""])),
            age_s=draw(st.sampled_from([5.0, 100.0, 5000.0])),
            seen_s=draw(st.sampled_from([5.0, 70.0, 5000.0])),
            leaving="" if calm else draw(st.sampled_from(["", "", "", "draining", "destroyed"])),
            missing_s=None if calm else draw(st.sampled_from([None, None, None, 1.0, 100.0])),
            is_self=number == 0 and draw(st.booleans()),
            pets=pets,
            state=State.UNSPECIFIED if calm else draw(st.sampled_from([State.UNSPECIFIED] * 4 + list(State)[:5])),
        )
        for number in range(draw(st.integers(0, 7)))
    ]
    if calm:  # one member per slot: an operator must resolve a duplicate if none is healthy
        members = list({m.slot: m for m in members}.values())
    seen = worlds.view(*members, pets=pets, lag_s=draw(st.sampled_from([0.0, 10.0])), can_inspect=draw(st.booleans()))
    if not calm:
        orders = draw(
            st.builds(_orders, st.sampled_from(range(12)), st.sampled_from([*(str(m.id) for m in members), "x"]))
        )
        seen.problem = draw(st.sampled_from(["", "", "", "", "the listing failed"]))
        for slot in draw(st.lists(st.sampled_from(slots), unique=True, max_size=3)):
            phase = draw(st.sampled_from(["recorded", "calling", "created", "unknown", "refused"]))
            seen.pending[Slot(slot)] = worlds.pending(
                phase,
                ended_s=draw(st.sampled_from([0.0, 60.0])),
                presumed_absent=draw(st.booleans()),
                instance=InstanceID(draw(st.sampled_from(["i-new", "i-0"]))) if phase == "created" else None,
            )
        for slot in draw(st.lists(st.sampled_from(slots), unique=True, max_size=2)):
            retry_at = NOW + draw(st.sampled_from([-5.0, 5.0]))
            key, version = draw(st.sampled_from([slot, replacement_key(slot)])), draw(st.sampled_from([NEW, OLD]))
            seen.backoffs[key] = Backoff(count=draw(st.integers(1, 4)), retry_at=retry_at, why="died", version=version)
    if draw(st.booleans()):
        seen.rolling_to = NEW
    if draw(st.booleans()):
        seen.membership = draw(lists_of_members(calm=calm))
    return msgspec.structs.replace(wanted, orders=orders), seen


@st.composite
def lists_of_members(draw: st.DrawFn, *, calm: bool) -> Membership:
    """Draw the membership that a flavor reports; some of its needed changes concern members of the view."""
    needs = [
        MembershipChange(
            id=f"change/{number}",
            what="because",
            due=draw(st.booleans()),
            instance=draw(st.sampled_from([None, InstanceID("i-0"), InstanceID("i-x")])),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    requested_at = NOW if calm else NOW - draw(st.sampled_from([0.0, 0.0, 10.0, AGE_S_MAX + 1.0]))
    membership = Membership(needs=tuple(needs), requested_at=requested_at, problem="")
    if not calm:
        membership.problem = draw(st.sampled_from(["", "", "", "nobody leads"]))
        membership.changed_at = draw(st.sampled_from([-math.inf, NOW - 20.0, NOW - 5.0]))
        membership.changing = draw(st.sampled_from([None, None, None, *needs]))
    return membership


def _orders(choice: int, instance: str) -> Orders:
    order = Halt(group=None, who="ann", when="now", why="because")
    if choice == 0:
        return Orders(halt=order)
    if choice == 1:
        return Orders(destroying=order)
    if choice == 2:
        return Orders(evictions={InstanceID(instance): Eviction(who="ann", when="now", why="because")})
    if choice in (3, 4):
        return Orders(roll=RolloutStop(hash=NEW, aborted=choice == 4, who="ann", when="now", why="because"))
    if choice == 5:
        return Orders(despite_unhealthy=(InstanceID(instance),))
    return Orders()


def check(want: DesiredState, view: GroupView, plan: Plan) -> None:
    """Check every law for one plan."""
    created = [a for a in plan.actions if isinstance(a, Provision)]
    fresh = [a for a in created if a.token is None]
    destroyed = [a for a in plan.actions if isinstance(a, Destroy)]
    unmoved = [m for m in view.members.values() if not m.leaving]
    ended = {a.instance for a in destroyed}

    for action in plan.actions:
        assert action.reason, action
        assert action.rule, action
    for block in plan.blocked:
        assert block.reason, block
        assert block.rule, block

    if view.problem:
        assert not plan.actions, "acted on an incomplete observation"
    if want.orders.halt is not None:
        assert not plan.actions, "acted while halted"

    # One instance and one intent per slot.
    assert len({a.slot for a in created}) == len(created)
    taken = {m.slot for m in view.members.values()}
    for action in fresh:
        assert action.slot not in taken, "a replacement although the slot has an instance"
        assert action.slot not in view.pending, "a second intent for one slot"
    for action in created:
        if action.token is not None:
            assert action.token == view.pending[action.slot].intent.token
            assert view.pending[action.slot].phase in {"recorded", "unknown"}

    # Never more instances than declared.
    surge = 0 if view.pets else amount(want.group.properties.updating.max_surge, want.size)
    if fresh and not view.pets:
        unresolved = len(view.pending) - len(view.settled())
        assert len(view.members) + unresolved + len(fresh) <= want.size + surge
    if view.pets:
        assert {a.slot for a in fresh} <= {Slot(i) for i in want.logical_ids}

    # Destruction: only known members, and each only once.
    assert len(ended) == len(destroyed)
    for action in destroyed:
        member = view.members[action.instance]
        assert not member.leaving
        health = member.health(view.now)
        if action.rule in {"unhealthy", "out-of-date"}:
            assert health is not Health.UNKNOWN or member.state is State.FINISHED, "acted on unknown health"
            assert member.missing_since is None
        if action.rule == "unhealthy":
            assert health is Health.UNHEALTHY
            graced_until = -math.inf if member.is_proven else member.seen_at + want.boot_grace_s
            assert view.now - max(member.unhealthy_since or view.now, graced_until) >= want.unhealthy_after_s
        if action.rule == "surplus" and view.pets:
            assert member.logical_id not in want.logical_ids, "a declared pet was removed"
        if action.rule == "surplus" and not view.pets:
            unresolved = len(view.pending) - len(view.settled())
            assert len(unmoved) + unresolved > want.size, "removed although there are no more instances than declared"
        if action.rule == "out-of-date":
            assert member.hash not in {want.group.hash, BOOTSTRAP}
            assert not want.rollout_stopped
            if member.is_self:
                others = [
                    m for m in unmoved if m.hash not in {NEW, BOOTSTRAP} and m.id not in ended and m is not member
                ]
                assert not [m for m in others if m.id not in want.orders.evictions], "own node replaced before the last"

    _check_backoff(view, fresh)
    _check_limits(want, view, destroyed)
    _check_list(want, view, plan, destroyed)
    _check_converged(want, view, plan)


def _check_backoff(view: GroupView, fresh: list[Provision]) -> None:
    for action in fresh:
        backoff = view.backoffs.get(action.slot)
        failed = backoff is not None and backoff.version == action.hash and backoff.retry_at > view.now
        assert not failed, "created although that version is backed off in the slot"


def _check_limits(want: DesiredState, view: GroupView, destroyed: list[Destroy]) -> None:
    evicted = {a.instance for a in destroyed if a.rule in BY_OPERATOR}
    standing = {
        m.id: m
        for m in view.members.values()
        if not m.leaving
        and m.state is not State.STOPPING
        and m.missing_since is None
        and m.id not in evicted
        and (m.health(view.now) is Health.HEALTHY or m.state is State.FINISHED)
    }
    ready = {i: m for i, m in standing.items() if not view.pets or LogicalID(m.slot or "") in want.logical_ids}
    slots = {m.slot for m in ready.values()} if view.pets else set(ready)
    free = [a for a in destroyed if a.rule not in BY_OPERATOR]
    rolled = [a for a in free if a.rule == "out-of-date" and a.instance in ready]
    if rolled:
        assert len(slots) - len(rolled) >= want.size - want.max_unavailable, "more unavailable than the policy allows"
    leaving = [m for m in view.members.values() if m.leaving or m.state is State.STOPPING]
    surplus = [a for a in destroyed if a.rule == "surplus"]
    if surplus and not want.quorum:
        at_once = max(1, min(want.max_unhealthy, max(want.max_unavailable, len(view.members) // 100)))
        assert len(surplus) + len(leaving) <= at_once, "more are removed at once than the budget"
    if surplus and want.quorum:
        assert len(surplus) == 1
        assert not leaving, "two members leave a quorum at once"
        left = standing.keys() - {a.instance for a in destroyed}
        assert len({standing[i].slot for i in left}) >= min(want.size, len(slots) + 1), "removed without a replacement"
    if want.quorum and want.orders.destroying is None:
        lost = [a for a in free if a.instance in ready]
        if lost:
            assert len(slots) - len(lost) >= want.size - want.can_lose, "a quorum lost its majority"
    unhealthy = [
        m
        for m in view.members.values()
        if not m.leaving
        and m.state not in (State.STOPPING, State.FINISHED)
        and m.missing_since is None
        and m.health(view.now) is Health.UNHEALTHY
        and (m.is_proven or view.now - m.seen_at >= want.boot_grace_s)
    ]
    others = len(standing) - len(ready)  # not declared any more: they serve until the declared ones do
    unhealthy_count = max(len(unhealthy), want.size - len(slots) - others if want.quorum else 0)
    if unhealthy and unhealthy_count > want.max_unhealthy:
        excused = set(want.orders.despite_unhealthy)
        assert not [a for a in free if a.instance not in excused], (
            "destroyed although more than MaxUnhealthy members are unhealthy"
        )


def _check_list(want: DesiredState, view: GroupView, plan: Plan, destroyed: list[Destroy]) -> None:
    changes = [a.change for a in plan.actions if isinstance(a, ChangeMembership)]
    membership = view.membership
    if membership is None:
        assert not changes
        return
    assert len(changes) <= 1
    if changes:
        assert membership.changing is None, "two concurrent membership changes"
        assert changes[0] in membership.needs
        assert changes[0].due
        assert not membership.problem
        assert view.now - membership.requested_at <= AGE_S_MAX
        assert membership.requested_at >= membership.changed_at, "acted on an observation from before the last change"
        assert want.orders.destroying is None
        if want.quorum:
            assert not [m for m in view.members.values() if m.leaving in ("draining", "destroying")]
    if want.quorum and (changes or membership.changing is not None):
        assert not destroyed, "a member is destroyed during a membership change of a quorum"
    if not view.problem and want.orders.halt is None and want.orders.destroying is None:
        reported = {blocked.key for blocked in plan.blocked}
        for need in membership.needs:
            shown = need.id in reported or need in changes or need == membership.changing
            assert shown or view.now - membership.requested_at > AGE_S_MAX, (
                "a needed membership change is neither made nor reported"
            )


def _check_converged(want: DesiredState, view: GroupView, plan: Plan) -> None:
    if not plan.converged:
        return
    assert not plan.actions
    assert not view.problem
    assert not view.pending
    assert len(view.members) == want.size
    for member in view.members.values():
        assert member.hash == want.group.hash
        assert member.health(view.now) is Health.HEALTHY or member.state is State.FINISHED
        assert not member.leaving
        assert member.missing_since is None
    if view.pets:
        assert {m.logical_id for m in view.members.values()} == set(want.logical_ids)
    if view.membership is not None:
        assert view.membership.changing is None
        assert view.now - view.membership.requested_at <= AGE_S_MAX
        assert not [need for need in view.membership.needs if need.due]


@given(worlds_of_members())
@settings(max_examples=600, deadline=None)
def test_any_plan_keeps_the_laws(world: tuple[DesiredState, GroupView]) -> None:
    want, view = world
    check(want, view, decide(want, view))


@given(worlds_of_members())
@settings(max_examples=200, deadline=None)
def test_a_plan_depends_only_on_its_inputs_and_does_not_change_them(world: tuple[DesiredState, GroupView]) -> None:
    want, view = world
    before = copy.deepcopy(view)
    first = decide(want, view)
    assert decide(want, view) == first
    assert view == before


@given(worlds_of_members(calm=True))
@settings(max_examples=400, deadline=None)
def test_successful_plans_converge_in_bounded_steps(world: tuple[DesiredState, GroupView]) -> None:
    want, view = world
    actions, last = forecast(want, view)
    assert last.converged, (last.phase, last.blocked)
    needs = view.membership.needs if view.membership is not None else ()
    assert len(actions) <= 3 * (len(view.members) + want.size) + 2 + len(needs)


@given(worlds_of_members())
@settings(max_examples=300, deadline=None)
def test_a_group_that_has_not_converged_has_an_action_or_a_reason(world: tuple[DesiredState, GroupView]) -> None:
    want, view = world
    plan = decide(want, view)
    if plan.converged or plan.actions or plan.blocked:
        return
    waits_for_health = [m for m in view.members.values() if m.leaving or m.health(view.now) is not Health.HEALTHY]
    under_way = [p for p in view.pending.values() if p.phase == "calling"]
    list_under_way = view.membership is not None and not view.membership.known(view.now)
    list_under_way = list_under_way or (view.membership is not None and view.membership.changing is not None)
    assert (
        waits_for_health
        or under_way
        or list_under_way
        or not math.isinf(plan.next_check)
        or want.orders.destroying is not None
    )


def test_the_checker_itself_can_fail() -> None:
    """A plan that destroys a healthy, declared member is caught."""
    want, view = worlds.want(ids="a b c", quorum=True), worlds.view(*(worlds.pet(i) for i in "abc"), pets=True)
    bad = Plan(actions=tuple(Destroy(instance=InstanceID(f"i-{i}"), reason="r", rule="surplus") for i in "ab"))
    with pytest.raises(AssertionError):
        check(want, view, bad)
    assert not [a for a in decide(want, view).actions if isinstance(a, Destroy | Label | Settle)]
