"""Absence is not death, and an intent is not settled by hope."""

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


def look(seen: GroupView, *listing: Description, at: float, wall: float = 0.0) -> list[InstanceID]:
    seen.listed(listing, begun_at=at, now=at, wall=wall)
    return [m.id for m in seen.gone()]


def test_two_listings_of_a_strongly_consistent_provider_are_evidence_and_one_is_not() -> None:
    seen = view()
    look(seen, described("i-1"), at=1)
    assert look(seen, at=2) == []
    assert look(seen, at=3) == ["i-1"]
    assert not seen.members


def test_absence_from_a_lagging_listing_is_evidence_only_after_the_lag() -> None:
    seen = view(lag_s=10)
    look(seen, described("i-1"), at=1)
    assert look(seen, at=2) == []
    assert seen.members[InstanceID("i-1")].missing_since == 2
    assert look(seen, at=11.9) == []
    assert look(seen, at=12) == ["i-1"]


def test_one_absence_is_never_enough_for_a_lagging_listing() -> None:
    seen = view(lag_s=0.5)
    look(seen, described("i-1"), at=1)
    assert look(seen, at=100) == []


def test_an_instance_that_is_listed_again_was_never_gone() -> None:
    seen = view(lag_s=10)
    look(seen, described("i-1"), at=1)
    look(seen, at=2)
    look(seen, described("i-1"), at=3)
    assert seen.members[InstanceID("i-1")].missing_since is None
    assert look(seen, at=12) == []


def test_where_the_provider_can_be_asked_no_time_is_evidence() -> None:
    seen = view(can_inspect=True)
    look(seen, described("i-1"), at=1)
    assert look(seen, at=1000) == []
    assert list(seen.doubtful()) == ["i-1"]
    seen.inspected(InstanceID("i-1"), None)
    assert [m.id for m in seen.gone()] == ["i-1"]


def test_an_instance_that_lives_but_is_not_listed_yet_stays_an_intent() -> None:
    """A successor sees listings and the ledger only: what is in neither would be made twice."""
    seen = view(can_inspect=True)
    intended(seen, fresh=True)
    seen.pending[Slot("10.0.0.1")].phase = Phase.CREATED
    seen.pending[Slot("10.0.0.1")].instance = InstanceID("i-1")
    look(seen, at=1)
    seen.inspected(InstanceID("i-1"), described("i-1", token="t-1"))
    assert seen.settled() == []


def test_what_the_provider_says_to_live_is_not_given_up_whatever_listings_leave_out() -> None:
    for can_inspect in (False, True):
        seen = view(can_inspect=can_inspect, lag_s=20)
        intended(seen, fresh=True)
        pending = seen.pending[Slot("10.0.0.1")]
        pending.phase, pending.instance, pending.ended_at = Phase.CREATED, InstanceID("i-1"), 0.0
        look(seen, described("i-later"), at=30)
        seen.inspected(InstanceID("i-1"), described("i-1", token="t-1"))
        seen.presume_absent()
        assert pending.presumed_absent is not can_inspect
    seen.inspected(InstanceID("i-1"), None)
    assert pending.presumed_absent


def test_terminated_is_evidence_and_stopping_is_not() -> None:
    seen = view(lag_s=60)
    look(seen, described("i-1"), at=1)
    assert look(seen, described("i-1", state=State.STOPPING), at=2) == []
    assert look(seen, described("i-1", state=State.TERMINATED), at=3) == ["i-1"]


def test_a_failed_observation_concludes_nothing() -> None:
    seen = view()
    look(seen, described("i-1"), at=1)
    seen.failed("the listing failed", now=2)
    assert seen.gone() == []
    assert seen.problem
    look(seen, described("i-1"), at=3)
    assert not seen.problem


def test_the_logical_id_may_come_from_the_tag() -> None:
    seen = view()
    bare = Description(id=InstanceID("i-1"), tags={values.TAG_GROUP: "g", values.TAG_LOGICAL_ID: "10.0.0.9"})
    look(seen, bare, at=1)
    assert seen.members[InstanceID("i-1")].slot == "10.0.0.9"


def test_age_comes_from_the_tag_and_survives_a_restart_of_the_controller() -> None:
    seen = view()
    look(seen, described("i-1", created="1970-01-01T00:16:40Z"), at=5, wall=1060)
    assert seen.members[InstanceID("i-1")].born_at == pytest.approx(5 - 60)


def test_a_spoilt_creation_tag_is_not_fatal() -> None:
    seen = view()
    look(seen, described("i-1", created="yesterday"), at=5, wall=1060)
    assert seen.members[InstanceID("i-1")].born_at == 5


def intended(seen: GroupView, *, fresh: bool) -> None:
    seen.intend({Slot("10.0.0.1"): Intent(token=Token("t-1"), hash="v", at=0)}, fresh=fresh)


def test_an_intent_found_in_the_ledger_has_an_unknown_outcome() -> None:
    seen = view()
    intended(seen, fresh=False)
    pending = seen.pending[Slot("10.0.0.1")]
    assert (pending.phase, pending.unsure) == ("unknown", True)


def test_an_intent_is_settled_by_its_token_in_a_listing() -> None:
    seen = view()
    intended(seen, fresh=False)
    look(seen, described("i-1", token="other"), at=1)
    assert seen.settled() == []
    look(seen, described("i-1", token="other"), described("i-2", token="t-1"), at=2)
    assert seen.settled() == ["10.0.0.1"]


def test_an_unknown_intent_lapses_only_after_a_listing_begun_beyond_the_lag() -> None:
    seen = view(lag_s=10)
    seen.now = 100
    intended(seen, fresh=False)
    look(seen, at=109)
    seen.presume_absent()
    assert not seen.pending[Slot("10.0.0.1")].presumed_absent
    look(seen, at=110)
    seen.presume_absent()
    assert seen.pending[Slot("10.0.0.1")].presumed_absent


def test_a_verdict_belongs_to_one_incarnation_and_grows_old() -> None:
    seen = view()
    look(seen, described("i-1"), at=1)
    seen.judged({InstanceID("i-1"): HealthReport(health=Health.HEALTHY)}, at=1)
    assert seen.members[InstanceID("i-1")].health(2) is Health.HEALTHY
    assert seen.members[InstanceID("i-1")].health(100) is Health.UNKNOWN
    look(seen, described("i-2"), at=2)
    assert seen.members[InstanceID("i-2")].health(2) is Health.UNKNOWN


def test_a_late_verdict_does_not_overwrite_a_newer_one() -> None:
    seen = view()
    look(seen, described("i-1"), at=1)
    seen.judged({InstanceID("i-1"): HealthReport(health=Health.HEALTHY)}, at=5)
    seen.judged({InstanceID("i-1"): HealthReport(health=Health.UNHEALTHY)}, at=4)
    assert seen.members[InstanceID("i-1")].health(5) is Health.HEALTHY


def test_unhealthy_since_is_when_it_began_not_when_it_was_last_seen() -> None:
    seen = view()
    look(seen, described("i-1"), at=1)
    for at in (2.0, 3.0, 4.0):
        seen.judged({InstanceID("i-1"): HealthReport(health=Health.UNHEALTHY, note=str(at))}, at=at)
    assert seen.members[InstanceID("i-1")].unhealthy_since == 2


def test_an_acknowledged_end_that_does_not_happen_is_asked_for_again() -> None:
    seen = view(lag_s=5)
    look(seen, described("i-1"), at=1)
    member = seen.members[InstanceID("i-1")]
    member.leaving, member.left_at = Leaving.DESTROYED, 2
    look(seen, described("i-1"), at=30)
    seen.retry_destroys()
    assert member.leaving == "destroyed"
    look(seen, described("i-1"), at=40)
    seen.retry_destroys()
    assert member.leaving == ""


def test_turning_cattle_into_pets_reads_slots_anew() -> None:
    seen = view(pets=False)
    look(seen, described("i-1", slot="1"), at=1)
    assert seen.members[InstanceID("i-1")].slot == "1"
    seen.declare(pets=True, version="", policy=seen.policy)
    assert seen.members[InstanceID("i-1")].slot == "10.0.0.1"
