"""Plans for the member list of a flavor: which changes are made now, which are blocked, and why."""

import math
from collections.abc import Callable

import pytest

from infrakit.group.actions import Action, Blocked, ChangeMembership, Destroy, Plan, Provision
from infrakit.group.forecast import forecast
from infrakit.group.orders import Eviction
from infrakit.group.plan import DesiredState, decide
from infrakit.group.plan import membership as member_list
from infrakit.group.state.backoff import Backoff
from infrakit.group.state.member import Leaving
from infrakit.group.state.membership import AGE_S_MAX, Membership
from infrakit.group.state.view import REPEAT_S, GroupView
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.manager import Halt
from infrakit.spi.values import TAG_TOKEN, Health, InstanceID, Slot, State
from tests import worlds
from tests.worlds import NOW, pet

PROMOTE = MembershipChange(id="promote/3", what="node 3 is let in", instance=InstanceID("i-c"))
REMOVE = MembershipChange(id="remove/9", what="node 9 is dead and is taken off")
UNMANAGED = MembershipChange(id="unknown/7", what="node 7 is nobody's: look who made it", due=False)
HALT = Halt(group=None, who="ann", when="now", why="because")


def known(*needs: MembershipChange, asked_s: float = 0.0, **more: object) -> Membership:
    """The membership as reported to a query of `asked_s` ago."""
    membership = Membership(needs=needs, requested_at=NOW - asked_s, problem="")
    for name, value in more.items():
        setattr(membership, name, value)
    return membership


def world(
    *needs: MembershipChange, ids: str = "a b c", quorum: bool = True, **more: object
) -> tuple[DesiredState, GroupView]:
    """A complete group whose member list needs these changes."""
    view = worlds.view(*(pet(i) for i in "abc"), pets=True)
    view.membership = known(*needs, **more)  # type: ignore[arg-type]
    return worlds.want(ids=ids, quorum=quorum), view


def changes(plan: Plan) -> list[MembershipChange]:
    return [a.change for a in plan.actions if isinstance(a, ChangeMembership)]


def blocked_by(plan: Plan, rule: str) -> list[Blocked]:
    return [block for block in plan.blocked if block.rule == rule]


def subjects(plan: Plan, kind: type[Action]) -> list[str]:
    return [a.subject for a in plan.actions if isinstance(a, kind)]


def test_changes_are_made_one_at_a_time_in_the_order_of_the_flavor() -> None:
    for first, second in ((PROMOTE, REMOVE), (REMOVE, PROMOTE)):
        plan = decide(*world(UNMANAGED, first, second))
        (action,) = plan.actions
        assert isinstance(action, ChangeMembership)
        assert (action.change, action.reason, action.rule) == (first, first.what, "membership")
        assert action.subject == (first.instance or "g")
        assert action.key == ("change", "")
        (waiting,) = blocked_by(plan, "one-at-a-time")
        assert (waiting.subject, waiting.key) == (second.instance or "g", second.id)
        assert "another change comes first" in waiting.reason
        assert not plan.converged


def test_no_change_is_started_while_another_is_in_progress() -> None:
    want, view = world(PROMOTE, REMOVE, changing=PROMOTE)
    plan = decide(want, view)
    assert plan.actions == ()
    assert [block.key for block in plan.blocked] == [REMOVE.id]
    assert not plan.converged
    view.membership = known(changing=PROMOTE)
    assert not decide(want, view).converged


def test_a_change_that_is_not_due_is_shown_while_reported_and_does_not_prevent_convergence() -> None:
    want, view = world(UNMANAGED)
    for _ in range(2):
        plan = decide(want, view)
        (block,) = plan.blocked
        assert (block.subject, block.reason, block.rule) == ("g", UNMANAGED.what, "membership")
        assert plan.converged
        view.backoffs[member_list.key(UNMANAGED)] = Backoff(count=1, retry_at=NOW + 5, why="no")
    view.membership = known()
    assert decide(want, view).blocked == ()


def test_the_subject_of_a_change_is_its_instance_only_while_that_is_a_member() -> None:
    want, view = world(PROMOTE)
    assert subjects(decide(want, view), ChangeMembership) == ["i-c"]
    del view.members[InstanceID("i-c")]
    assert subjects(decide(want, view), ChangeMembership) == ["g"]


@pytest.mark.parametrize(
    "membership",
    [
        known(REMOVE, problem="the flavor failed: no leader"),
        known(REMOVE, asked_s=AGE_S_MAX + 1),
        known(REMOVE, asked_s=10.0, changed_at=NOW - 5.0),
        Membership(),
    ],
    ids=["query failed", "outdated", "before the last change", "never queried"],
)
def test_an_outdated_or_failed_membership_query_causes_no_action(membership: Membership) -> None:
    want, view = world()
    view.membership = membership
    plan = decide(want, view)
    assert plan.actions == ()
    assert not plan.converged


def test_a_failed_membership_query_is_reported_and_outdated_changes_expire() -> None:
    want, view = world(REMOVE, UNMANAGED, asked_s=5.0, problem="the flavor failed: no leader")
    plan = decide(want, view)
    assert [(block.rule, block.key) for block in plan.blocked] == [
        ("unknown-is-not-acted-on", "list"),
        ("one-at-a-time", REMOVE.id),
        ("membership", UNMANAGED.id),
    ]
    assert "unknown: the flavor failed: no leader" in plan.blocked[0].reason
    view.now = NOW + AGE_S_MAX
    assert [block.rule for block in decide(want, view).blocked] == ["unknown-is-not-acted-on"]


def test_a_group_converges_only_if_its_member_list_was_read_recently() -> None:
    want, view = world(asked_s=AGE_S_MAX - 1)
    assert decide(want, view).converged
    view.membership = known(asked_s=AGE_S_MAX + 1)
    assert not decide(want, view).converged
    view.membership = known(problem="no leader")
    assert decide(want, view).converged  # the last successful query is recent
    view.membership = known(asked_s=5.0, changed_at=NOW - 1.0)
    assert not decide(want, view).converged
    view.membership = None
    assert decide(want, view).converged


@pytest.mark.parametrize("orders", [{"halt": HALT}, {"destroying": HALT}], ids=["halted", "destroying"])
def test_the_membership_is_not_changed_in_a_group_that_is_halted_or_destroyed(orders: dict[str, object]) -> None:
    want, view = world(PROMOTE)
    assert changes(decide(worlds.with_orders(want, **orders), view)) == []


def test_the_membership_is_not_changed_when_the_listing_failed() -> None:
    want, view = world(PROMOTE)
    view.problem = "the listing failed"
    assert decide(want, view).actions == ()


@pytest.mark.parametrize("leaving", ["draining", "destroying", "destroyed"])
def test_the_membership_of_a_quorum_is_not_changed_while_a_member_is_leaving(leaving: str) -> None:
    want, view = world(REMOVE)
    member = view.members[InstanceID("i-b")]
    member.leaving, member.left_at = Leaving(leaving), NOW - 1.0
    plan = decide(want, view)
    assert changes(plan) == []
    (block,) = blocked_by(plan, "one-at-a-time")
    assert "i-b is leaving" in block.reason
    assert changes(decide(worlds.want(ids="a b c"), view)) == [REMOVE]  # this group has no quorum to lose


def test_the_membership_of_a_quorum_is_not_changed_while_a_lost_destroy_may_take_effect() -> None:
    want, view = world(REMOVE)
    view.members[InstanceID("i-b")].left_at = NOW - 1.0
    assert changes(decide(want, view)) == []
    view.members[InstanceID("i-b")].left_at = NOW - REPEAT_S - 1.0
    assert changes(decide(want, view)) == [REMOVE]


def test_a_destruction_that_takes_long_does_not_block_membership_changes() -> None:
    want, view = world(REMOVE)
    member = view.members[InstanceID("i-b")]
    member.leaving, member.state, member.left_at = Leaving.DESTROYED, State.STOPPING, NOW - REPEAT_S
    assert changes(decide(want, view)) == []
    member.left_at -= 1.0
    assert changes(decide(want, view)) == [REMOVE]
    view.lag_s = 10.0
    assert changes(decide(want, view)) == []
    member.leaving = Leaving.DESTROYING
    view.lag_s = 0.0
    assert changes(decide(want, view)) == []


def test_a_missing_member_is_created_during_a_membership_change() -> None:
    want, view = world(PROMOTE)
    del view.members[InstanceID("i-a")]
    plan = decide(want, view)
    assert changes(plan) == [PROMOTE]
    assert subjects(plan, Provision) == ["a"]
    view.pending[Slot("a")] = worlds.pending("calling")
    assert changes(decide(want, view)) == [PROMOTE]


@pytest.mark.parametrize("under_way", [True, False])
def test_no_member_of_a_quorum_is_destroyed_during_a_membership_change(under_way: bool) -> None:
    want, view = world(PROMOTE, ids="a b", changing=PROMOTE if under_way else None)
    plan = decide(want, view)
    assert subjects(plan, Destroy) == []
    assert [block.subject for block in blocked_by(plan, "one-at-a-time")] == ["i-c"]
    view.membership = known()
    assert subjects(decide(want, view), Destroy) == ["i-c"]
    _, view = world(PROMOTE, changing=PROMOTE if under_way else None)
    assert subjects(decide(worlds.want(ids="a b"), view), Destroy) == ["i-c"]


def test_requested_destructions_wait_for_a_membership_change_in_progress() -> None:
    want, view = world(REMOVE, changing=REMOVE)
    eviction = Eviction(who="ann", when="now", why="because")
    evicting = worlds.with_orders(want, evictions={InstanceID("i-a"): eviction})
    for desired in (evicting, worlds.with_orders(want, destroying=HALT)):
        assert subjects(decide(desired, view), Destroy) == []
    view.membership = known()
    for desired in (evicting, worlds.with_orders(want, destroying=HALT)):
        assert subjects(decide(desired, view), Destroy) == ["i-a"]


def test_a_failed_change_backs_off_and_other_changes_come_first() -> None:
    want, view = world(PROMOTE, REMOVE, ids="a b")
    view.backoffs[member_list.key(PROMOTE)] = Backoff(count=2, retry_at=NOW + 7.0, why="not reachable")
    plan = decide(want, view)
    assert changes(plan) == [REMOVE]
    (block,) = blocked_by(plan, "back-off")
    assert "has failed 2 times (not reachable); next retry in 7.0s" in block.reason
    assert plan.next_check == NOW + 7.0
    view.membership = known(PROMOTE)
    plan = decide(want, view)
    assert changes(plan) == []
    assert subjects(plan, Destroy) == ["i-c"]
    assert not plan.converged
    view.now = NOW + 7.0
    assert changes(decide(want, view)) == [PROMOTE]


def test_failed_membership_changes_do_not_count_as_failures_of_a_new_version() -> None:
    want, view = world(PROMOTE)
    view.rolling_to = want.group.hash
    view.backoffs[member_list.key(PROMOTE)] = Backoff(count=9, retry_at=NOW + 7.0, why="not reachable")
    assert [a.verb for a in decide(want, view).actions] == []


def test_the_circuit_breaker_does_not_block_membership_changes() -> None:
    want, view = world(REMOVE)
    for instance in ("i-a", "i-b"):
        member = view.members[InstanceID(instance)]
        member.report, member.healthy_since = worlds.REPORTS[Health.UNHEALTHY], None
        member.unhealthy_since = NOW - 100.0
    plan = decide(want, view)
    assert changes(plan) == [REMOVE]
    assert blocked_by(plan, "max-unhealthy")


def test_a_forecast_applies_each_membership_change_once() -> None:
    want, view = world(PROMOTE, REMOVE, UNMANAGED, changing=PROMOTE)
    actions, last = forecast(want, view)
    assert [a.change for a in actions if isinstance(a, ChangeMembership)] == [REMOVE]
    assert last.converged
    assert [block.reason for block in last.blocked] == [UNMANAGED.what]
    assert view.membership == known(PROMOTE, REMOVE, UNMANAGED, changing=PROMOTE)


@pytest.mark.parametrize(
    "membership", [Membership(), known(PROMOTE, problem="no leader")], ids=["never queried", "query failed"]
)
def test_a_forecast_ends_where_the_membership_is_unknown(membership: Membership) -> None:
    want, view = world()
    view.membership = membership
    actions, last = forecast(want, view)
    assert actions == []
    assert not last.converged


# -- the observed membership ---------------------------------------------------------------------------------------


def needed(view: GroupView) -> tuple[tuple[MembershipChange, ...], bool] | None:
    """The changes that the member list needs, and whether they may be acted on."""
    membership = view.membership
    return None if membership is None else (membership.needs, membership.known(NOW))


def test_a_query_counts_only_if_it_started_after_the_last_change() -> None:
    view = worlds.view()
    view.needs([REMOVE], NOW)
    assert needed(view) is None
    view.track_member_list(exists=True)
    view.needs([PROMOTE, REMOVE], NOW - 5.0)
    assert needed(view) == ((PROMOTE, REMOVE), True)
    view.change_started(PROMOTE)
    view.change_ended(NOW, done=True)
    assert needed(view) == ((REMOVE,), False)
    view.needs([PROMOTE], NOW - 1.0)
    assert needed(view) == ((REMOVE,), False)
    view.needs([PROMOTE], NOW)
    assert needed(view) == ((PROMOTE,), True)
    view.change_started(PROMOTE)
    view.change_ended(NOW + 1.0, done=False)
    assert needed(view) == ((PROMOTE,), False)
    assert view.membership is not None
    assert view.membership.changing is None
    view.track_member_list(exists=False)
    assert needed(view) is None


def test_the_revision_of_the_view_changes_with_the_membership() -> None:
    view = worlds.view()
    view.track_member_list(exists=True)
    revisions = [view.revision]
    steps: tuple[Callable[[], None], ...] = (
        lambda: view.needs([PROMOTE], NOW),
        lambda: view.needs("no leader", NOW),
        lambda: view.needs([PROMOTE], NOW),
        lambda: view.change_started(PROMOTE),
        lambda: view.change_ended(NOW, done=False),
        lambda: view.needs([], NOW + 1),
    )
    for step in steps:
        step()
        revisions.append(view.revision)
    assert len(set(revisions)) == len(revisions)
    view.needs([], NOW + 2)
    assert view.revision == revisions[-1]
    view.needs("no leader", NOW)
    view.needs("no leader", NOW)
    assert view.revision == revisions[-1] + 1


def test_the_membership_is_compared_with_every_instance_not_confirmed_as_terminated() -> None:
    view = worlds.view(pet("a"), pet("b", missing_s=5.0), pet("c", leaving="destroyed"), pets=True)
    view.pending[Slot("d")] = worlds.pending("created", instance=InstanceID("i-d"))
    view.pending[Slot("e")] = worlds.pending("unknown")
    view.pending[Slot("a")] = worlds.pending("created", instance=InstanceID("i-a"))  # it is listed already
    found = view.possibly_live()
    assert [each.id for each in found] == ["i-a", "i-b", "i-c", "i-d", ""]
    assert [each.logical_id for each in found] == ["a", "b", "c", "d", "e"]
    assert (found[4].tags or {})[TAG_TOKEN] == "t"
    assert found[4].state is State.PENDING
    cattle = worlds.view()
    cattle.pending[Slot("1")] = worlds.pending("unknown")
    (one,) = cattle.possibly_live()
    assert (one.logical_id, (one.tags or {})["infrakit.slot"]) == (None, "1")


def test_a_membership_that_was_never_read_is_not_fresh() -> None:
    assert not Membership().fresh(0.0)
    assert math.isinf(Membership().requested_at)
