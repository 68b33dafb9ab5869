"""Absence from a listing does not confirm a termination, and an intent is resolved only by evidence."""

import pytest

from infrakit.group.ledger import Intent
from infrakit.group.state.creation import Phase
from infrakit.group.state.member import Leaving
from infrakit.group.state.view import GroupView
from infrakit.spi import values
from infrakit.spi.values import Description, GroupID, Health, HealthReport, InstanceID, LogicalID, Slot, State, Token


def view(*, lag_s: float = 0.0, can_inspect: bool = False, pets: bool = True) -> GroupView:
    return GroupView(group=GroupID("g"), pets=pets, lag_s=lag_s, can_inspect=can_inspect)


def described(name: str, *, state: State | None = None, **tags: str) -> Description:
    more = {"state": state} if state is not None else {}
    return Description(
        id=InstanceID(name),
        logical_id=LogicalID("10.0.0.1"),
        tags={values.TAG_GROUP: "g"} | {f"infrakit.{k}": v for k, v in tags.items()},
        **more,  # type: ignore[arg-type]
    )


def observe(observed: GroupView, *listing: Description, at: float, wall: float = 0.0) -> list[InstanceID]:
    observed.listed(listing, begun_at=at, now=at, wall=wall)
    return [m.id for m in observed.pop_terminated() if not m.ended_before]


def test_two_listings_of_a_strongly_consistent_provider_are_evidence_and_one_is_not() -> None:
    observed = view()
    observe(observed, described("i-1"), at=1)
    assert observe(observed, at=2) == []
    assert observe(observed, at=3) == ["i-1"]
    assert not observed.members


def test_absence_from_a_lagging_listing_is_evidence_only_after_the_lag() -> None:
    observed = view(lag_s=10)
    observe(observed, described("i-1"), at=1)
    assert observe(observed, at=2) == []
    assert observed.members[InstanceID("i-1")].missing_since == 2
    assert observe(observed, at=11.9) == []
    assert observe(observed, at=12) == ["i-1"]


def test_one_absence_from_a_lagging_listing_is_never_evidence() -> None:
    observed = view(lag_s=0.5)
    observe(observed, described("i-1"), at=1)
    assert observe(observed, at=100) == []


def test_an_instance_that_is_listed_again_is_not_missing() -> None:
    observed = view(lag_s=10)
    observe(observed, described("i-1"), at=1)
    observe(observed, at=2)
    observe(observed, described("i-1"), at=3)
    assert observed.members[InstanceID("i-1")].missing_since is None
    assert observe(observed, at=12) == []


def test_with_inspect_absence_is_no_evidence_however_long_it_lasts() -> None:
    observed = view(can_inspect=True)
    observe(observed, described("i-1"), at=1)
    assert observe(observed, at=1000) == []
    assert list(observed.unconfirmed()) == ["i-1"]
    observed.inspected(InstanceID("i-1"), None)
    assert [m.id for m in observed.pop_terminated()] == ["i-1"]


@pytest.mark.parametrize("token", ["t-1", "other/g/a/1"])
def test_an_inspection_that_shows_another_instance_with_the_id_confirms_the_termination(token: str) -> None:
    """Found by the simulation: an instance of another cluster, which is no member, had got the ID."""
    observed = view(can_inspect=True)
    observe(observed, described("i-1", token="t-1"), at=1)
    observe(observed, at=2)
    observed.inspected(InstanceID("i-1"), described("i-1", token=token))
    assert [m.id for m in observed.pop_terminated()] == (["i-1"] if token != "t-1" else [])


def test_a_running_instance_that_is_not_listed_yet_remains_an_intent() -> None:
    """A new leader reads listings and the ledger only: an instance in neither would be created twice."""
    observed = view(can_inspect=True)
    add_intent(observed, fresh=True)
    observed.pending[Slot("10.0.0.1")].phase = Phase.CREATED
    observed.pending[Slot("10.0.0.1")].instance = InstanceID("i-1")
    observe(observed, at=1)
    observed.inspected(InstanceID("i-1"), described("i-1", token="t-1"))
    assert not observed.settled()


def test_an_instance_that_inspect_reports_as_running_is_not_presumed_absent() -> None:
    for can_inspect in (False, True):
        observed = view(can_inspect=can_inspect, lag_s=20)
        add_intent(observed, fresh=True)
        pending = observed.pending[Slot("10.0.0.1")]
        pending.phase, pending.instance, pending.ended_at = Phase.CREATED, InstanceID("i-1"), 0.0
        observe(observed, described("i-later"), at=30)
        observed.inspected(InstanceID("i-1"), described("i-1", token="t-1"))
        observed.presume_absent()
        assert pending.presumed_absent is not can_inspect
    observed.inspected(InstanceID("i-1"), None)
    assert pending.presumed_absent


def test_terminated_is_evidence_and_stopping_is_not() -> None:
    observed = view(lag_s=60)
    observe(observed, described("i-1"), at=1)
    assert observe(observed, described("i-1", state=State.STOPPING), at=2) == []
    assert observe(observed, described("i-1", state=State.TERMINATED), at=3) == ["i-1"]


def test_a_termination_is_reported_once_and_holds_its_slot_while_the_provider_still_lists_it() -> None:
    observed = view()
    observe(observed, described("i-1"), at=1)
    assert observe(observed, described("i-1", state=State.TERMINATED), at=2) == ["i-1"]
    observed.listed([described("i-1", state=State.STOPPING)], begun_at=3, now=3, wall=0)
    assert observed.members[InstanceID("i-1")].leaving
    assert observe(observed, described("i-1", state=State.TERMINATED), at=4) == []
    assert not observed.members


def test_a_lagging_listing_does_not_revive_a_terminated_instance() -> None:
    observed = view(lag_s=10, can_inspect=True)
    observe(observed, described("i-1", state=State.RUNNING), at=1)
    observed.listed([], begun_at=2, now=2, wall=0)
    observed.inspected(InstanceID("i-1"), None)
    assert [m.id for m in observed.pop_terminated()] == ["i-1"]
    assert observed.listed([described("i-1", state=State.RUNNING)], begun_at=3, now=3, wall=0) == []
    assert observed.members[InstanceID("i-1")].leaving is Leaving.DESTROYED


def test_our_own_node_is_known_as_such_when_a_listing_shows_it_again_after_its_termination() -> None:
    """Found by the simulation: it was no new member, so no one asked, and it was updated before the others."""
    observed = view(lag_s=10)
    observed.is_self = lambda member: member.logical_id == "10.0.0.1"
    observe(observed, described("i-1"), at=1)
    assert observe(observed, described("i-1", state=State.TERMINATED), at=2) == ["i-1"]
    observe(observed, described("i-1"), at=3)
    (again,) = observed.members.values()
    assert (again.is_self, again.leaving) == (True, Leaving.DESTROYED)


def test_an_instance_that_was_restarted_after_its_termination_is_a_member_again() -> None:
    observed = view()
    observe(observed, described("i-1"), at=1)
    observe(observed, described("i-1", state=State.TERMINATED), at=2)
    (again,) = observed.listed([described("i-1", state=State.RUNNING)], begun_at=3, now=3, wall=0)
    assert not again.leaving
    assert observe(observed, described("i-1", state=State.TERMINATED), at=4) == ["i-1"]


def test_nothing_is_concluded_from_a_failed_observation() -> None:
    observed = view()
    observe(observed, described("i-1"), at=1)
    observed.failed("the listing failed", now=2)
    assert observed.pop_terminated() == []
    assert observed.problem
    observe(observed, described("i-1"), at=3)
    assert not observed.problem


def test_the_logical_id_may_come_from_the_tag() -> None:
    observed = view()
    bare = Description(id=InstanceID("i-1"), tags={values.TAG_GROUP: "g", values.TAG_LOGICAL_ID: "10.0.0.9"})
    observe(observed, bare, at=1)
    assert observed.members[InstanceID("i-1")].slot == "10.0.0.9"


def test_age_comes_from_the_tag_and_survives_a_restart_of_the_controller() -> None:
    observed = view()
    observe(observed, described("i-1", created="1970-01-01T00:16:40Z"), at=5, wall=1060)
    assert observed.members[InstanceID("i-1")].created_at == pytest.approx(5 - 60)


def test_no_wall_clock_shortens_the_boot_grace() -> None:
    observed = view()
    observe(observed, described("i-1", created="1970-01-01T00:16:40Z"), at=5, wall=1000 + 3600)
    assert observed.members[InstanceID("i-1")].grace_ends_at(60) == 65


def test_a_start_is_proven_by_uninterrupted_health_only_and_stays_proven() -> None:
    observed = view()
    observe(observed, described("i-1"), at=0)
    member = observed.members[InstanceID("i-1")]
    verdicts = {0: Health.HEALTHY, 40: Health.UNHEALTHY, 41: Health.HEALTHY, 100: Health.HEALTHY}
    for at, health in verdicts.items():
        observed.judged({member.id: HealthReport(health=health)}, at=at)
        assert not member.is_proven
    observed.judged({member.id: HealthReport(health=Health.HEALTHY)}, at=101)
    observed.judged({member.id: HealthReport(health=Health.UNHEALTHY)}, at=102)
    assert member.is_proven
    member.reset_health(103)
    assert member.is_proven


def test_an_invalid_creation_tag_is_not_fatal() -> None:
    observed = view()
    observe(observed, described("i-1", created="yesterday"), at=5, wall=1060)
    assert observed.members[InstanceID("i-1")].created_at == 5


def add_intent(observed: GroupView, *, fresh: bool) -> None:
    observed.intend({Slot("10.0.0.1"): Intent(token=Token("t-1"), hash="v", at=0)}, fresh=fresh)


def test_an_intent_found_in_the_ledger_has_an_unknown_outcome() -> None:
    observed = view()
    add_intent(observed, fresh=False)
    pending = observed.pending[Slot("10.0.0.1")]
    assert (pending.phase, pending.uncertain) == ("unknown", True)


def test_an_intent_is_settled_by_its_token_in_a_listing() -> None:
    observed = view()
    add_intent(observed, fresh=False)
    observe(observed, described("i-1", token="other"), at=1)
    assert not observed.settled()
    observe(observed, described("i-1", token="other"), described("i-2", token="t-1"), at=2)
    assert list(observed.settled()) == ["10.0.0.1"]


def test_an_unknown_intent_is_presumed_absent_only_after_a_listing_begun_after_the_lag() -> None:
    observed = view(lag_s=10)
    observed.now = 100
    add_intent(observed, fresh=False)
    observe(observed, at=109)
    observed.presume_absent()
    assert not observed.pending[Slot("10.0.0.1")].presumed_absent
    observe(observed, at=110)
    observed.presume_absent()
    assert observed.pending[Slot("10.0.0.1")].presumed_absent


def test_a_health_report_belongs_to_one_instance_and_expires() -> None:
    observed = view()
    observe(observed, described("i-1"), at=1)
    observed.judged({InstanceID("i-1"): HealthReport(health=Health.HEALTHY)}, at=1)
    assert observed.members[InstanceID("i-1")].health(2) is Health.HEALTHY
    assert observed.members[InstanceID("i-1")].health(100) is Health.UNKNOWN
    observe(observed, described("i-2"), at=2)
    assert observed.members[InstanceID("i-2")].health(2) is Health.UNKNOWN


def test_a_late_health_report_does_not_overwrite_a_newer_one() -> None:
    observed = view()
    observe(observed, described("i-1"), at=1)
    observed.judged({InstanceID("i-1"): HealthReport(health=Health.HEALTHY)}, at=5)
    observed.judged({InstanceID("i-1"): HealthReport(health=Health.UNHEALTHY)}, at=4)
    assert observed.members[InstanceID("i-1")].health(5) is Health.HEALTHY


def test_unhealthy_since_is_the_time_of_the_first_unhealthy_report() -> None:
    observed = view()
    observe(observed, described("i-1"), at=1)
    for at in (2.0, 3.0, 4.0):
        observed.judged({InstanceID("i-1"): HealthReport(health=Health.UNHEALTHY, note=str(at))}, at=at)
    assert observed.members[InstanceID("i-1")].unhealthy_since == 2


def test_an_acknowledged_destruction_that_does_not_happen_is_retried() -> None:
    observed = view(lag_s=5)
    observe(observed, described("i-1"), at=1)
    member = observed.members[InstanceID("i-1")]
    member.leaving, member.left_at = Leaving.DESTROYED, 2
    observe(observed, described("i-1"), at=30)
    observed.retry_destroys()
    assert member.leaving == "destroyed"
    observe(observed, described("i-1"), at=40)
    observed.retry_destroys()
    assert member.leaving == ""


def test_turning_cattle_into_pets_rereads_the_slots() -> None:
    observed = view(pets=False)
    observe(observed, described("i-1", slot="1"), at=1)
    assert observed.members[InstanceID("i-1")].slot == "1"
    observed.declare(pets=True, declared=frozenset(), version="", policy=observed.policy)
    assert observed.members[InstanceID("i-1")].slot == "10.0.0.1"
