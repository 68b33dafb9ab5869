"""Evidence in the view of a group: what counts once, what expires, and what proves that nothing is left."""

import pytest

from infrakit.gate.census import Census, pack
from infrakit.group.ledger import Intent
from infrakit.group.state import tags
from infrakit.group.state.member import STABLE_S
from infrakit.group.state.view import EMPTY_S, GroupView
from infrakit.spi import values
from infrakit.spi.values import (
    Attachment,
    Description,
    GroupID,
    Health,
    HealthReport,
    InstanceID,
    LogicalID,
    Slot,
    Token,
)

SLOT = Slot("1")


def view(*, lag_s: float = 0.0) -> GroupView:
    return GroupView(group=GroupID("g"), pets=False, lag_s=lag_s, can_inspect=False)


def described(name: str) -> Description:
    return Description(id=InstanceID(name), tags={values.TAG_GROUP: "g", values.TAG_SLOT: SLOT})


def observe(observed: GroupView, *names: str, at: float) -> list[InstanceID]:
    """Return the instances whose termination this listing confirms."""
    observed.listed([described(name) for name in names], begun_at=at, now=at, wall=0.0)
    return [member.id for member in observed.pop_terminated()]


def intend(observed: GroupView) -> None:
    observed.intend({SLOT: Intent(token=Token("t-1"), hash="v", at=0.0)}, fresh=True)


def test_listings_that_omit_a_member_do_not_add_up_over_one_that_shows_it() -> None:
    observed = view()
    observe(observed, "i-1", at=1)
    assert observe(observed, at=2) == []
    observe(observed, "i-1", at=3)
    assert observe(observed, at=4) == []
    assert observe(observed, at=5) == ["i-1"]


def give_up(observed: GroupView) -> None:
    """A creation without an answer, which no listing shows."""
    intend(observed)
    creation = observed.pending[SLOT]
    creation.call("v")
    creation.unanswered("no answer", observed.now, retry_at=0.0)
    creation.presume_absent()
    observed.settle([SLOT])


def test_creations_of_a_slot_that_are_presumed_absent_are_counted_until_one_is_listed() -> None:
    observed = view()
    for count in (1, 2):
        give_up(observed)
        assert observed.absences == {SLOT: count}
    intend(observed)
    creation = observed.pending[SLOT]
    creation.call("v")
    creation.created(InstanceID("i-1"), 1.0)
    observe(observed, "i-1", at=2)
    observed.settle([SLOT])
    assert observed.absences == {}


def test_the_health_of_what_the_previous_leader_may_have_destroyed_is_requested_again() -> None:
    observed = view()
    observed.inherit_destroys([InstanceID("i-1")], until=10)
    observe(observed, "i-1", at=1)
    member = observed.members[InstanceID("i-1")]
    observed.judged({member.id: HealthReport(health=Health.HEALTHY)}, at=9)
    assert member.leaving
    observe(observed, "i-1", at=10)
    observed.expire_inherited(at_once=False)
    assert member.leaving, "its call may still take effect"
    observe(observed, "i-1", at=11)
    observed.expire_inherited(at_once=False)
    assert not member.leaving
    assert member.health(11) is Health.UNKNOWN
    observed.judged({member.id: HealthReport(health=Health.HEALTHY)}, at=10)
    assert member.health(11) is Health.UNKNOWN, "a report from before it is released"


@pytest.mark.parametrize("lag_s", [0.0, 30.0])
def test_a_destroyed_group_is_empty_after_two_listings_that_are_further_apart_than_the_lag(lag_s: float) -> None:
    observed, apart_s = view(lag_s=lag_s), max(lag_s, EMPTY_S)
    observe(observed, at=1)
    assert not observed.is_proven_empty()
    observe(observed, at=0.9 + apart_s)
    assert not observed.is_proven_empty()
    observe(observed, at=1 + apart_s)
    assert observed.is_proven_empty()


def test_a_destroyed_group_is_not_empty_while_an_intent_or_a_listing_is_open() -> None:
    observed = view()
    observe(observed, at=1)
    assert not observed.is_proven_empty()
    intend(observed)
    observe(observed, at=10)
    assert not observed.is_proven_empty(), "the instance may be listed later"
    observed.settle([SLOT])
    assert not observed.is_proven_empty(), "counted from the first listing without the intent"
    observe(observed, at=20)
    observed.failed("the listing failed", now=30)
    assert not observed.is_proven_empty()
    for at, proven in ((40, False), (50, True)):
        observe(observed, at=at)
        assert observed.is_proven_empty() is proven


@pytest.mark.parametrize("lag_s", [0.0, 30.0])
def test_a_slot_of_the_previous_leader_vanishes_after_two_listings_that_are_further_apart_than_the_lag(
    lag_s: float,
) -> None:
    observed, apart_s = view(lag_s=lag_s), max(lag_s, EMPTY_S)
    observed.known.recall(Census(slots=pack([SLOT])))
    for at, vanished in ((1.0, []), (0.9 + apart_s, []), (1 + apart_s, [SLOT])):
        observe(observed, at=at)
        assert observed.known.pop_vanished() == vanished


def test_the_health_of_a_member_that_is_not_listed_is_unknown() -> None:
    observed = view(lag_s=30)
    observe(observed, "i-1", at=1)
    member = observed.members[InstanceID("i-1")]
    observed.judged({member.id: HealthReport(health=Health.HEALTHY)}, at=1)
    observe(observed, at=2)
    assert member.health(2) is Health.UNKNOWN
    observe(observed, "i-1", at=3)
    assert member.health(3) is Health.HEALTHY


def test_failures_of_a_slot_are_forgotten_once_its_instance_has_stayed_healthy() -> None:
    observed = view()
    observed.record_slot_failure(SLOT, "it terminated", version="", first_without_delay=False)
    observe(observed, "i-1", at=1)
    for at, keys in ((1.0, {SLOT}), (STABLE_S, {SLOT}), (1 + STABLE_S, set[Slot]())):
        observed.judged({InstanceID("i-1"): HealthReport(health=Health.HEALTHY)}, at=at)
        observed.expire_backoffs()
        assert observed.backoffs.keys() == keys


def test_an_instance_without_its_token_is_known_by_the_id_that_its_creation_returned() -> None:
    observed = view()
    intend(observed)
    creation = observed.pending[SLOT]
    creation.call("v")
    creation.created(InstanceID("i-1"), 1.0)
    observe(observed, "i-2", at=2)
    assert SLOT not in observed.settled()
    observe(observed, "i-1", "i-2", at=3)
    assert SLOT in observed.settled()


@pytest.mark.parametrize(("held", "slot"), [("a", Slot("a")), ("ab", None), ("", None), ("x", None)])
def test_a_pet_is_identified_by_volumes_of_one_logical_id_only(held: str, slot: Slot | None) -> None:
    observed = GroupView(group=GroupID("g"), pets=True, lag_s=0.0, can_inspect=False)
    volumes = {each: Attachment(id=f"vol-{each}", type="volume") for each in "abx"}
    observed.attach({LogicalID(each): (volumes[each],) for each in "ab"}, "v1")
    attached = tuple(volumes[each] for each in held)
    listed = Description(id=InstanceID("i-1"), tags={values.TAG_GROUP: "g"}, attachments=attached)
    observed.listed([listed], begun_at=1, now=1, wall=0.0)
    tags.identify(observed)
    assert observed.members[InstanceID("i-1")].slot == slot


def test_an_id_that_a_provider_returns_for_two_creations_is_that_of_the_first_one() -> None:
    observed, second = view(), Slot("2")
    observed.intend({slot: Intent(token=Token(f"t-{slot}"), hash="v", at=0.0) for slot in (SLOT, second)}, fresh=True)
    for slot, refused in ((SLOT, ""), (second, "the provider returned the ID i-1, which is already that of 1")):
        creation = observed.pending[slot]
        creation.call("v")
        assert observed.acknowledge(slot, creation, InstanceID("i-1"), 1.0) == refused
    assert observed.pending[second].instance is None
