"""The promises of a rehearsal, judged from what happened to instances: each is kept, and can be broken."""

import math
from typing import Any

import pytest

from infrakit.simulation.rehearsal import promises
from infrakit.simulation.rehearsal.groups import RehearsedGroup
from infrakit.simulation.rehearsal.lives import Cause, Life, course, whole_from
from infrakit.simulation.rehearsal.promises import Course
from infrakit.simulation.rehearsal.providers import ProviderShape
from infrakit.spi.group import DeclaredAllocation, FlavorRef, Group, GroupProperties, Healing, InstanceRef, Updating
from infrakit.spi.values import Attachment, GroupID, InstanceID, LogicalID

FAULT_AT, END, WITHIN_S = 100.0, 1000.0, 600.0
NEVER = math.inf


def group(
    size: int = 0,
    ids: str = "",
    *,
    quorum: bool = False,
    volumes: bool = False,
    updating: Updating | None = None,
    healing: Healing | None = None,
) -> RehearsedGroup:
    """A group of cattle by `size`, or of pets by `ids`: "a b c"."""
    names = tuple(LogicalID(each) for each in ids.split())
    declared = Group(
        name=GroupID("g"),
        properties=GroupProperties(
            allocation=DeclaredAllocation(logical_ids=names) if names else DeclaredAllocation(size=size),
            instance=InstanceRef(plugin="local"),
            flavor=FlavorRef(plugin="vanilla"),
            updating=updating or Updating(),
            healing=healing or Healing(),
        ),
        hash="h",
    )
    held = {each: (Attachment(id=f"vol-{each}", type="volume"),) for each in names if volumes}
    return RehearsedGroup(
        declared=declared, quorum=quorum, lists_voters=False, attachments=held, provider=ProviderShape(), boot_s=0.0
    )


def life(member: str, created: float = 0.0, ended: float = NEVER, **more: Any) -> Life:
    """An instance that is healthy one second after its creation, unless it says otherwise."""
    volumes = tuple(Attachment(id=each, type="volume") for each in more.pop("volumes", ()))
    cause = None if math.isinf(ended) else more.pop("cause", Cause.INFRAKIT)
    values = {"healthy_at": created + 1.0, "unhealthy_at": NEVER, "is_bad": False} | more
    name = InstanceID(f"{member}@{created:g}")
    return Life(id=name, member=member, attachments=volumes, created_at=created, ended_at=ended, cause=cause, **values)


def judged(
    declared: RehearsedGroup, *lives: Life, rolling: bool = False, rest: bool = True, reason: str = ""
) -> dict[str, str]:
    """The broken promises, and why."""
    happened = Course(
        lives={declared.name: lives},
        fault_at=FAULT_AT,
        end=END,
        within_s=WITHIN_S,
        is_rolling=rolling,
        came_to_rest=rest,
        reasons={declared.name: reason} if reason else {},
    )
    return {each.promise: each.why for each in promises.broken([declared], happened)}


def killed(member: str, replaced_at: float = 110.0, **more: Any) -> tuple[Life, Life]:
    """A member that the fault terminates, and its replacement."""
    return life(member, 0.0, FAULT_AT, cause=Cause.FAULT, **more), life(member, replaced_at, **more)


def test_a_terminated_member_that_is_replaced_breaks_no_promise() -> None:
    assert judged(group(2), *killed("1"), life("2")) == {}
    assert judged(group(ids="a b", volumes=True), *killed("a", volumes=["vol-a"]), life("b", volumes=["vol-b"])) == {}


def test_two_live_instances_of_one_logical_id_are_reported() -> None:
    first, second = life("a", 0.0, 110.5, cause=Cause.FAULT), life("a", 110.0)
    assert judged(group(ids="a"), first, second)["one-instance"] == "a@110 was created as a while a@0 was live"
    earlier = life("a", 50.0, 60.0, cause=Cause.FAULT)
    assert "one-instance" in judged(group(ids="a"), life("a", 0.0, 200.0), earlier, life("a", 150.0))
    assert "one-instance" not in judged(group(1), first, second), "cattle have no identity"


def test_a_volume_with_two_holders_is_reported() -> None:
    found = judged(group(ids="a b", volumes=True), life("a", volumes=["vol-a"]), life("b", 5.0, volumes=["vol-a"]))
    assert found["one-instance"] == "b@5 and a@0 both hold the volume vol-a"
    assert found["same-volume"] == "b@5 was created as b with vol-a"


def test_a_replacement_without_the_volume_is_reported_and_is_not_whole() -> None:
    before = life("a", 0.0, FAULT_AT, cause=Cause.FAULT, volumes=["vol-a"])
    found = judged(group(ids="a", volumes=True), before, life("a", 110.0))
    assert found["same-volume"] == "a@110 was created as a with no volume"
    assert "whole" in found


@pytest.mark.parametrize(("surge", "broken"), [(0, True), (1, False)])
def test_more_instances_than_declared_are_reported(surge: int, broken: bool) -> None:
    declared = group(2, updating=Updating(max_surge=surge))
    found = judged(declared, life("1"), life("2"), life("3", 110.0, 120.0))
    assert ("no-surplus" in found) == broken


def test_the_destruction_of_a_healthy_member_is_reported() -> None:
    found = judged(group(3), life("1", 0.0, 110.0), life("1", 120.0), life("2"), life("3"))
    assert found == {"capacity": "1@0 (1) was destroyed while healthy, and 2 of 3 were left healthy"}


def test_a_rolling_update_may_take_as_many_as_max_unavailable() -> None:
    update = [life(each, 0.0, 110.0 + int(each), cause=Cause.INFRAKIT) for each in "12"]
    rest = [life("1", 130.0), life("2", 130.0), life("3"), life("4")]
    assert judged(group(4, updating=Updating(max_unavailable=2)), *update, *rest, rolling=True) == {}
    found = judged(group(4), *update, *rest, rolling=True)
    assert found["capacity"].endswith("2 of 4 were left healthy, and MaxUnavailable permits 1 less")


def test_the_loss_of_the_majority_is_reported_only_if_infrakit_caused_it() -> None:
    declared = group(ids="a b c", quorum=True, updating=Updating(max_unavailable=1))
    taken = [life(each, 0.0, 110.0 + n) for n, each in enumerate("ab")]
    found = judged(declared, *taken, life("a", 130.0), life("b", 130.0), life("c"), rolling=True)
    assert found["majority"].endswith("1 were left healthy, and the quorum needs 2")
    assert judged(declared, *killed("a"), *killed("b"), life("c")) == {}


def test_a_replacement_while_too_many_are_unhealthy_is_reported() -> None:
    sick = [life(each, 0.0, 110.0, unhealthy_at=FAULT_AT) for each in "1"]
    others = [life(each, 0.0, unhealthy_at=FAULT_AT) for each in "23"]
    declared = group(5)  # 40 %: two
    found = judged(declared, *sick, *others, life("1", 120.0), life("4"), life("5"))
    assert found["max-unhealthy"] == "1@0 (1) was destroyed while 3 were unhealthy; MaxUnhealthy is 2"
    more = group(5, healing=Healing(max_unhealthy=3))
    assert "max-unhealthy" not in judged(more, *sick, *others, life("1", 120.0), life("4"), life("5"))


def test_an_instance_that_is_still_booting_does_not_count_as_unhealthy() -> None:
    booting = life("2", 95.0, healthy_at=150.0)
    broken = life("1", 0.0, 110.0, unhealthy_at=FAULT_AT)
    declared = group(3, healing=Healing(max_unhealthy=1, boot_grace="60s"))
    assert judged(declared, broken, booting, life("1", 120.0), life("3")) == {}
    impatient = group(3, healing=Healing(max_unhealthy=1, boot_grace="10s"))
    assert "max-unhealthy" in judged(impatient, broken, booting, life("1", 120.0), life("3"))


def test_a_quorum_counts_every_member_that_is_not_healthy() -> None:
    declared = group(ids="a b c", quorum=True)
    absent = life("a", 0.0, FAULT_AT, cause=Cause.FAULT)
    broken = life("b", 0.0, 110.0, unhealthy_at=FAULT_AT)
    found = judged(declared, absent, broken, life("c"))
    assert found["max-unhealthy"] == "b@0 (b) was destroyed while 2 were not healthy; MaxUnhealthy is 1"


def test_a_group_that_is_not_whole_in_time_is_reported_with_infrakits_reason() -> None:
    found = judged(group(2), life("1", 0.0, FAULT_AT, cause=Cause.FAULT), life("2"), reason="1: it waits")
    assert found == {"whole": "1 of 2 were healthy and 1 live; 1: it waits"}
    late = life("1", FAULT_AT + WITHIN_S + 1.0)
    found = judged(group(2), life("1", 0.0, FAULT_AT, cause=Cause.FAULT), late, life("2"))
    assert found == {"whole": "1 of 2 were healthy and 1 live"}


def test_a_failed_version_that_does_not_stop_is_reported() -> None:
    declared = group(3)
    bad = [life("1", 120.0 + n, 120.5 + n, healthy_at=NEVER, is_bad=True) for n in range(3)]
    old = [life("1", 0.0, 110.0), life("1", 300.0), life("2"), life("3")]
    assert judged(declared, *bad, *old, rolling=True) == {}
    found = judged(declared, *bad, *old, rolling=True, rest=False)
    assert found["bad-version"].startswith("it has not stopped: 3 instances of that version were created")


def test_too_many_instances_of_a_failed_version_are_reported() -> None:
    bad = [life(each, 120.0, healthy_at=NEVER, is_bad=True) for each in "12"]
    old = [life("1", 0.0, 110.0), life("2", 0.0, 110.0), life("3"), life("4")]
    found = judged(group(4), *bad, *old, rolling=True)
    assert found["bad-version"].startswith("2 instances of the version that fails were live at once")
    assert "whole" in found, "instances of the failed version do not count"


def test_old_instances_that_do_not_return_are_reported() -> None:
    found = judged(group(3), life("1", 0.0, 110.0), life("2", 0.0, 120.0), life("3"), rolling=True)
    assert found["bad-version"] == "1 of 3 old instances were healthy at the end; MaxUnavailable is 1"


# -- the course of a group ---------------------------------------------------------------------------------------------


def test_the_course_of_a_group_has_each_change_of_its_redundancy() -> None:
    steps = course(group(2), [*killed("1"), life("2", unhealthy_at=150.0)])
    assert [(each.at, each.live, each.healthy, each.whole) for each in steps[1:]] == [
        (1.0, 2, 2, True),
        (100.0, 1, 1, False),
        (110.0, 2, 1, False),
        (111.0, 2, 2, True),
        (150.0, 2, 1, False),
    ]
    assert whole_from(steps, END) is None
    assert whole_from(steps, 140.0) == 111.0


def test_two_instances_of_one_member_are_not_a_whole_group() -> None:
    assert whole_from(course(group(2), [life("1"), life("1", 5.0)]), END) is None
    assert whole_from(course(group(ids="a b"), [life("a"), life("x")]), END) is None
    assert whole_from(course(group(ids="a b"), [life("a"), life("b")]), END) == 1.0
