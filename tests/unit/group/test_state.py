"""The state machines of a group: what each transition allows and must never do, and which code may change a state."""

import ast
import functools
from collections.abc import Callable
from pathlib import Path

import pytest

import infrakit.group
from infrakit.group.state.backoff import BackoffPolicy, replacement_key
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Leaving, Member
from infrakit.group.state.view import GroupView
from infrakit.spi.values import GroupID, Health, InstanceID, Slot
from tests import source
from tests.worlds import member, pending, view

I_1 = InstanceID("i-1")

CREATION_STEPS: dict[str, Callable[[Creation], None]] = {
    "call": lambda each: each.call(),
    "created": lambda each: each.created(I_1, 5.0),
    "not_created": lambda each: each.not_created("unreachable", 5.0),
    "refuse": lambda each: each.refuse("no capacity", 5.0, retry_at=9.0),
    "unanswered": lambda each: each.unanswered("no answer", 5.0, retry_at=9.0),
    "presume_absent": lambda each: each.presume_absent(),
}
CREATION_ALLOWED = {
    Phase.RECORDED: {"call"},
    Phase.CALLING: {"created", "not_created", "refuse", "unanswered"},
    Phase.CREATED: {"presume_absent"},
    Phase.REFUSED: set(),
    Phase.UNKNOWN: {"call", "presume_absent"},
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("step", CREATION_STEPS)
def test_a_creation_changes_only_as_allowed(phase: Phase, step: str) -> None:
    creation = pending(phase)
    before = creation.changes.value
    if step in CREATION_ALLOWED[phase]:
        CREATION_STEPS[step](creation)
        assert creation.changes.value == before + 1
    else:
        with pytest.raises(AssertionError):
            CREATION_STEPS[step](creation)
        assert (creation.phase, creation.changes.value) == (phase, before)


@pytest.mark.parametrize("step", ["not_created", "refuse", "unanswered"])
def test_an_earlier_call_without_a_response_keeps_the_outcome_unknown(step: str) -> None:
    creation = pending("unknown", uncertain=True)
    creation.call()
    CREATION_STEPS[step](creation)
    assert (creation.phase, creation.uncertain) == (Phase.UNKNOWN, True)


@pytest.mark.parametrize("step", ["created", "not_created", "refuse", "unanswered"])
def test_listings_before_a_call_prove_nothing_about_its_instance(step: str) -> None:
    creation = pending("unknown", uncertain=True)
    creation.presume_absent()
    creation.call()
    CREATION_STEPS[step](creation)
    assert not creation.presumed_absent


def test_a_refused_first_call_created_nothing() -> None:
    creation = pending("recorded")
    creation.call()
    creation.refuse("no capacity", 5.0, retry_at=9.0)
    assert (creation.phase, creation.refused, creation.may_be_called) == (Phase.REFUSED, False, False)


MEMBER_STEPS: dict[str, Callable[[Member], None]] = {
    "start_drain": Member.start_drain,
    "start_destroy": Member.start_destroy,
    "destroy_acknowledged": lambda each: each.destroy_acknowledged(5.0),
    "retry_destroy": Member.retry_destroy,
}
MEMBER_ALLOWED = {
    Leaving.NO: {"start_drain", "start_destroy"},
    Leaving.DRAINING: {"start_drain", "start_destroy"},
    Leaving.DESTROYING: {"destroy_acknowledged"},
    Leaving.DESTROYED: {"retry_destroy"},
}


@pytest.mark.parametrize("leaving", Leaving)
@pytest.mark.parametrize("step", MEMBER_STEPS)
def test_a_member_leaves_only_as_allowed(leaving: Leaving, step: str) -> None:
    each = member("1", leaving=leaving)
    if step in MEMBER_ALLOWED[leaving]:
        MEMBER_STEPS[step](each)
        assert each.leaving is not leaving or step == "start_drain"
    else:
        with pytest.raises(AssertionError):
            MEMBER_STEPS[step](each)
        assert each.leaving is leaving


def test_health_from_before_a_destruction_without_a_response_is_discarded() -> None:
    called, not_called = member("1"), member("2", leaving="draining")
    called.start_destroy()
    for each in (called, not_called):
        each.destroy_unknown(2000.0)
        assert each.leaving is Leaving.NO
    assert (called.report, called.left_at) == (None, 2000.0)
    assert not_called.report is not None


def test_every_change_of_a_member_in_the_view_is_counted() -> None:
    observed = GroupView(group=GroupID("g"), pets=False, lag_s=0.0, can_inspect=False)
    listing = [member("1").description]
    (found,) = observed.listed(listing, begun_at=1.0, now=1.0, wall=1.0)
    for step in (
        found.start_drain,
        found.start_destroy,
        found.destroy_not_done,
        functools.partial(found.terminated, vanished=True),
    ):
        before = observed.revision
        step()
        assert observed.revision > before


def test_back_off_doubles_to_its_limit_and_a_first_failure_may_have_no_delay() -> None:
    policy = BackoffPolicy(first_s=5.0, longest_s=60.0)
    assert [policy.delay_s(failures) for failures in range(7)] == [0.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert policy.delay_s(10**6) == 60.0
    assert BackoffPolicy(first_s=5.0, jitter=lambda: 0.8).delay_s(2) == 8.0
    observed = view()
    for free, expected in ((True, 0.0), (True, 5.0), (False, 20.0)):
        observed.record_slot_failure(Slot("1"), "it terminated", version="v", first_without_delay=free)
        assert observed.backoffs["1"].retry_at - observed.now == expected


def test_failures_of_an_earlier_version_do_not_count_for_the_next() -> None:
    observed = view()
    for version in ("one", "one", "one", "two"):
        observed.record_slot_failure(Slot("1"), "it terminated", version=version, first_without_delay=False)
    assert (observed.backoffs["1"].count, observed.backoffs["1"].version) == (1, "two")
    assert observed.backoffs["1"].retry_at - observed.now == observed.policy.first_s


def failed(observed: GroupView, each: Member) -> None:
    for _ in range(3):
        observed.record_slot_failure(Slot("1"), "it terminated", version=each.hash, first_without_delay=True)


def test_a_termination_is_a_failed_start_unless_the_start_was_proven_or_the_end_was_requested() -> None:
    for since_s, requested, count in ((59.0, False, 4), (59.0, True, 3), (60.0, False, 0)):
        each = member("1", since_s=since_s)
        observed = view(each)
        failed(observed, each)
        observed.record_termination(each, "it terminated", requested=requested)
        backoff = observed.backoffs.get("1")
        assert (backoff.count if backoff is not None else 0) == count


def test_a_replacement_by_healing_delays_the_next_replacement_and_no_creation() -> None:
    observed = view()
    for _ in range(2):
        observed.record_replacement(member("1", Health.UNHEALTHY), "unhealthy for 30s")
    assert "1" not in observed.backoffs
    assert observed.backoffs[replacement_key("1")].retry_at > observed.now
    proven = member("2", Health.UNHEALTHY)
    proven.was_stable = True
    observed.record_replacement(proven, "unhealthy for 30s")
    assert replacement_key("2") not in observed.backoffs


def test_failures_end_when_their_own_version_has_been_healthy_for_long() -> None:
    for version, left in (("other", {"1", "replacing 1"}), ("v1", set())):
        each = member("1", version=version)
        observed = view(each)
        observed.record_slot_failure(Slot("1"), "it terminated", version="v1", first_without_delay=True)
        observed.record_replacement(member("1", Health.UNHEALTHY, version="v1"), "unhealthy")
        observed.expire_backoffs()
        assert observed.backoffs.keys() == left


def test_a_change_of_the_version_ends_the_delay_of_unresolved_creations() -> None:
    observed = view()
    observed.pending[Slot("1")] = pending("unknown", retry_at=5000.0)
    observed.declare(pets=False, declared=frozenset(), version="two", policy=observed.policy)
    assert observed.pending[Slot("1")].retry_at == 0.0


def test_an_unanswered_destruction_was_requested_for_as_long_as_it_may_take_effect() -> None:
    each = member("1")
    assert not each.was_requested_to_end(2000.0, effect_s=120.0)
    each.start_destroy()
    assert each.was_requested_to_end(2000.0, effect_s=120.0)
    each.destroy_unknown(2000.0)
    assert each.was_requested_to_end(2120.0, effect_s=120.0)
    assert not each.was_requested_to_end(2121.0, effect_s=120.0)


STATES = {*Member.__struct_fields__, *Creation.__struct_fields__, *GroupView.__struct_fields__} - {"now"}
OWN = {"self", "cls", "world"}  # `world` is the model on which a forecast is made


def assigned(text: str) -> list[str]:
    """Assignments to attributes of the state by a module outside the package `state`."""
    found = []
    for node in ast.walk(source.tree(text)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [each for target in node.targets for each in _flat(target)]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        found += [
            f"line {target.lineno}: {ast.unparse(target)}"
            for target in targets
            if isinstance(target, ast.Attribute) and target.attr in STATES and not _is_own(target.value)
        ]
    return found


def _flat(target: ast.expr) -> list[ast.expr]:
    return [each for part in target.elts for each in _flat(part)] if isinstance(target, ast.Tuple) else [target]


def _is_own(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in OWN


def test_only_the_package_state_changes_the_state() -> None:
    package = Path(infrakit.group.__file__).parent
    outside = [path for path in package.rglob("*.py") if "state" not in path.parts and path.name != "forecast.py"]
    assert len(outside) > 20
    assert {path.name: found for path in outside if (found := assigned(path.read_text()))} == {}


def test_an_assignment_from_outside_is_found() -> None:
    assert assigned("member.leaving = 'x'\nview.rolling_to, b = 'y', 1\nself.view.serial += 1\nself.state = 2\n") == [
        "line 1: member.leaving",
        "line 2: view.rolling_to",
        "line 3: self.view.serial",
    ]
