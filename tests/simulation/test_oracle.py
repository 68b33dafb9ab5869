"""The oracle alone: each law, broken by hand in a cloud without any code under test."""

import json
import random
from typing import Any

import pytest

from infrakit.simulation import scenario
from infrakit.simulation.disturbances import Disturbances
from infrakit.simulation.oracle import Caller, exceptions, whole
from infrakit.simulation.oracle.facts import KNOWN_S
from infrakit.spi import values
from infrakit.spi.event import Event, Kind
from infrakit.spi.store import Document
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec, LogicalID
from tests.simulation.court import CALLER, GROUP, Court


def test_a_whole_life_breaks_no_law(court: Court) -> None:
    court.at(1, lambda: court.declare(ids="a b c", quorum=True))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in "abc"))
    court.at(100, lambda: court.cloud.make_unhealthy(InstanceID("sim-1")))
    court.at(200, lambda: court.destroy("sim-1"))
    court.at(201, lambda: court.create("a", pet=True, token="c/g/a/2"))
    court.at(400, lambda: whole.check(court.oracle.facts, GROUP))
    assert court.verdict == ""


def test_a_second_instance_of_a_logical_id_is_found_when_it_is_requested(court: Court) -> None:
    court.at(1, lambda: court.declare(ids="a"), lambda: court.create("a", pet=True))
    court.at(2, lambda: court.create("a", pet=True, token="c/g/a/2"))
    assert court.verdict.startswith("2 one per identity: requested a second a while sim-1 lives")


def test_a_second_holder_of_a_volume_is_found(court: Court) -> None:
    court.at(1, lambda: court.declare(ids="a b"), lambda: court.create("a", pet=True, volume="v"))
    court.at(2, lambda: court.create("b", pet=True, volume="v"))
    assert court.verdict.startswith("2 one per identity: requested b with v, which sim-1 holds")


def test_an_instance_of_others_is_not_known_at_once(court: Court) -> None:
    court.at(1, lambda: court.declare(ids="a"))
    court.at(2, lambda: court.cloud.foreign("g", LogicalID("a")))
    court.at(3, lambda: court.create("a", pet=True))
    assert court.verdict == ""
    court.at(3 + KNOWN_S, lambda: court.create("a", pet=True, token="c/g/a/2"))
    assert court.verdict.startswith("2 one per identity: requested a second a")


def test_an_instance_that_another_party_runs_again_is_not_known_at_once(court: Court) -> None:
    court.at(1, lambda: court.declare(ids="a"), lambda: court.create("a", pet=True))
    court.at(100, lambda: court.cloud.kill(InstanceID("sim-1")))
    court.at(200, lambda: court.cloud.revive(random.Random(1)))
    court.at(201, lambda: court.create("a", pet=True, token="c/g/a/2"))
    assert court.verdict == ""
    court.at(202 + KNOWN_S, lambda: court.create("a", pet=True, token="c/g/a/3"))
    assert court.verdict.startswith("2 one per identity: requested a second a while sim-1 lives")


def test_two_instances_for_one_token_are_found(court: Court) -> None:
    court.at(1, lambda: court.declare(5), lambda: court.create("1"), lambda: court.create("1"))
    assert court.verdict.startswith("3 exactly one: sim-1 and sim-2 have the token c/g/1/1")


def test_more_than_declared_are_found(court: Court) -> None:
    court.at(1, lambda: court.declare(1), lambda: court.create("1"), lambda: court.create("2"))
    assert court.verdict.startswith("3 never more than declared: 2 instances of g live, 1 are declared")


def test_a_creation_for_an_undeclared_logical_id_is_found(court: Court) -> None:
    court.at(1, lambda: court.declare(ids="a"), lambda: court.create("b", pet=True))
    assert court.verdict.startswith("3 never more than declared: sim-1 was created for the undeclared b")


def test_a_healthy_and_declared_member_is_not_destroyed(court: Court) -> None:
    court.at(1, lambda: court.declare(3), *(lambda i=i: court.create(str(i)) for i in range(3)))
    court.at(200, lambda: court.destroy("sim-1"))
    assert court.verdict.startswith("4 unknown is not missing: sim-1 of g is destroyed while healthy")


@pytest.mark.parametrize("size", [3, 4])
def test_a_declaration_that_does_not_concern_the_group_changes_nothing(court: Court, size: int) -> None:
    court.at(1, lambda: court.declare(3), *(lambda i=i: court.create(str(i)) for i in range(3)))
    court.at(190, lambda: court.declare(size))
    court.at(200, lambda: court.destroy("sim-1"))
    assert court.verdict.startswith("4 unknown is not missing: sim-1 of g is destroyed") == (size == 3)


@pytest.mark.parametrize("later_s", [80, 120])
def test_a_member_that_boots_is_not_destroyed(court: Court, later_s: int) -> None:
    court.at(1, lambda: court.declare(2, healing={"BootGrace": "100s"}), lambda: court.create("1"))
    court.at(2, lambda: court.cloud.make_unhealthy(InstanceID("sim-1")))
    court.at(later_s, lambda: court.destroy("sim-1"))
    assert ("sim-1 of g is destroyed while booting" in court.verdict) == (later_s == 80)


@pytest.mark.parametrize("version", [0, 1])
def test_an_adopted_member_is_of_the_version_that_it_was_adopted_with(court: Court, version: int) -> None:
    tags = {values.TAG_GROUP: GROUP, values.TAG_HASH: values.BOOTSTRAP}
    court.at(1, lambda: court.declare(1))
    court.at(2, lambda: court.cloud.adopt(tags=tags))
    court.at(100, lambda: court.declare(1, version=version))
    court.at(300, lambda: court.destroy("sim-1"))
    assert court.verdict.startswith("4 unknown is not missing: sim-1 of g is destroyed") == (version == 0)


@pytest.mark.parametrize("limit", [{}, {"MaxUnhealthy": 1}])
def test_healthy_members_in_a_row_are_counted_until_others_are_healthy(court: Court, limit: dict[str, Any]) -> None:
    """Four of ten by default: the fifth breaks the law, unless the first four were replaced."""
    allowed = limit.get("MaxUnhealthy", 4)
    court.at(1, lambda: court.declare(10, healing=limit), *(lambda i=i: court.create(str(i)) for i in range(10)))
    court.at(100, lambda: court.declare(10, healing=limit, version=1))  # a new version: none is up to date
    for each in range(allowed):
        court.at(110 + each, lambda each=each: court.destroy(f"sim-{each + 1}"))
    assert court.verdict == ""
    court.at(120, lambda: court.destroy(f"sim-{allowed + 1}"))
    assert court.verdict.startswith(f"5 never worse: in a row: sim-{allowed + 1} is the {allowed + 1}. healthy member")


@pytest.mark.parametrize(("created", "restored", "missed"), [("c", False, False), ("", False, True), ("", True, False)])
def test_what_was_not_declared_is_missed_only_if_it_had_no_substitute(
    court: Court, created: str, *, restored: bool, missed: bool
) -> None:
    """Two pets are exchanged for two others, and back."""
    court.at(1, lambda: court.declare(ids="a b e"), *(lambda i=i: court.create(i, pet=True) for i in "abe"))
    court.at(100, lambda: court.declare(ids="c d e"), *(lambda i=i: court.create(i, pet=True) for i in created))
    court.at(200, lambda: court.destroy("sim-1"))
    if restored:
        court.at(250, lambda: court.oracle.restored({"declaration": 2}))
    court.at(300, lambda: court.declare(ids="a b e", version=1), lambda: court.destroy("sim-2"))
    assert court.verdict.startswith("5 never worse: in a row: sim-2 is the 2.") == missed


def test_too_many_destructions_at_once_are_found(court: Court) -> None:
    def stop(instance: str) -> None:
        court.oracle.reported(CALLER, Event(type=Kind.DESTROYING, instance=InstanceID(instance), message="a reason"))
        court.oracle.destroying(CALLER, InstanceID(instance), InstanceID(instance))

    court.at(1, lambda: court.declare(ids="a b c d e", quorum=True))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in "abcde"))
    court.at(100, lambda: court.declare(ids="a b c d e", quorum=True, version=1))
    court.at(101, lambda: stop("sim-1"), lambda: stop("sim-2"))
    assert court.verdict.startswith("5 never worse: at once: sim-1, sim-2 of g are being destroyed at once")


def test_nothing_is_destroyed_while_too_many_are_unhealthy(court: Court) -> None:
    court.at(1, lambda: court.declare(5), *(lambda i=i: court.create(str(i)) for i in range(5)))
    court.at(100, *(lambda n=n: court.cloud.make_unhealthy(InstanceID(f"sim-{n}")) for n in (1, 2, 3)))
    court.at(400, lambda: court.destroy("sim-1"))
    assert court.verdict.startswith("5 never worse: too many unhealthy: sim-1 is destroyed while sim-1, sim-2, sim-3")


def unhealthy_five(court: Court, at: float) -> None:
    """Five cattle, of which three become unhealthy at that time."""
    court.at(1, lambda: court.declare(5), *(lambda i=i: court.create(str(i)) for i in range(5)))
    court.at(at, *(lambda n=n: court.cloud.make_unhealthy(InstanceID(f"sim-{n}")) for n in (1, 2, 3)))


@pytest.mark.parametrize(("proven", "later_s", "known"), [(False, -1, False), (False, 1, True), (True, -1, True)])
def test_a_new_leader_counts_the_grace_again_unless_a_start_is_proven(
    court: Court, later_s: float, *, proven: bool, known: bool
) -> None:
    unhealthy_five(court, 150 if proven else 50)
    court.at(400, lambda: court.oracle.written(Document(name="ledger", revision=1, body=b'{"Epoch": 1}')))
    court.at(400 + 60 + 30 + KNOWN_S + later_s, lambda: court.destroy("sim-1"))
    assert court.verdict.startswith("5 never worse: too many unhealthy") == known


@pytest.mark.parametrize("how", ["the store is restored", "nothing is listed", "the group was free"])
@pytest.mark.parametrize("later_s", [-1, 1])
def test_what_was_forgotten_is_new(court: Court, how: str, later_s: float) -> None:
    unhealthy_five(court, 150)
    if how == "nothing is listed":
        court.at(300, lambda: court.oracle.facts.forget(400))
    elif how == "the store is restored":
        court.at(400, lambda: court.oracle.restored({"declaration": 1}))
    else:
        court.at(310, court.free)
        court.at(400, lambda: court.declare(5))
        court.at(450, lambda: court.declare(5))
    court.at(400 + 60 + 30 + KNOWN_S + later_s, lambda: court.destroy("sim-1"))
    assert court.verdict.startswith("5 never worse: too many unhealthy") == (later_s > 0)


def test_a_second_bearer_is_destroyed_while_too_many_are_unhealthy_if_the_other_one_is_healthy(court: Court) -> None:
    court.at(1, lambda: court.declare(ids="a b c", quorum=True))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in "abc"))
    court.at(100, *(lambda n=n: court.cloud.make_unhealthy(InstanceID(f"sim-{n}")) for n in (2, 3)))
    tags: dict[str, str] = {values.TAG_GROUP: GROUP}
    court.at(400, lambda: court.cloud._create(InstanceSpec(tags=tags, logical_id=LogicalID("a"))))
    court.at(401, lambda: court.destroy("sim-4"))
    assert court.verdict == ""
    court.at(402, lambda: court.cloud._create(InstanceSpec(tags=tags, logical_id=LogicalID("b"))))
    court.at(403, lambda: court.cloud.make_unhealthy(InstanceID("sim-5")))
    court.at(403 + 2 * KNOWN_S, lambda: court.destroy("sim-5"))
    assert court.verdict.startswith("5 never worse: too many unhealthy: sim-5 is destroyed while sim-2, sim-3")


@pytest.mark.parametrize("how", ["resume", "restore"])
def test_creations_of_an_hour_are_limited_until_an_operator_resumes_or_restores(court: Court, how: str) -> None:
    """Of one: ten, and one that the group has grown by."""
    court.at(1, lambda: court.declare(1))

    def crash(number: int) -> None:
        court.create("1", token=f"c/g/1/{number}")
        court.cloud.kill(InstanceID(f"sim-{number}"))

    court.at(2, *(lambda n=n: crash(n) for n in range(1, 12)))
    assert court.verdict == ""
    restored = how == "restore"
    anew = (lambda: court.oracle.restored({"declaration": 1})) if restored else (lambda: court.oracle.resuming(GROUP))
    court.at(3, anew, *(lambda n=n: crash(n) for n in range(12, 23)))
    assert court.verdict == ""
    court.at(4, lambda: crash(23))
    assert court.verdict.startswith(
        "5 never worse: creations: 12 instances of g were created within an hour, at most 11"
    )


@pytest.mark.parametrize("why", ["a new version", "the whole group"])
def test_the_node_of_the_caller_goes_last(court: Court, why: str) -> None:
    more: dict[str, Any] = {"version": 1} if why == "a new version" else {"Destroying": {"Who": "ann"}}
    court.at(1, lambda: court.declare(ids="a b"))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in "ab"))
    for life in court.oracle.facts.lives.values():
        life.version = 0
    court.at(200, lambda: court.declare(ids="a b", **more))
    court.oracle.own_nodes = {"n1": LogicalID("a")}
    court.at(300, lambda: court.destroy("sim-1"))
    assert court.verdict.startswith("5 never worse: own node last: sim-1 is the node of the caller, and is destroyed")


def test_instances_of_a_second_installation_are_not_touched(court: Court) -> None:
    court.at(1, lambda: court.declare(1), lambda: court.cloud.foreign("g", None))
    court.at(2, lambda: court.oracle.acting(CALLER, "label", InstanceID("sim-1")))
    assert court.verdict.startswith("5 never worse: not ours: label of sim-1")


def test_instances_of_an_undeclared_group_are_not_destroyed(court: Court) -> None:
    court.at(1, lambda: court.cloud.adopt(tags={values.TAG_GROUP: "free"}), lambda: court.destroy("sim-1"))
    assert court.verdict.startswith("5 never worse: not ours: sim-1 of free is destroyed")


def test_a_volume_is_deleted_only_on_request_and_when_nothing_holds_it(court: Court) -> None:
    volume = Attachment(id="vol-a", type="volume")
    asked: dict[str, Any] = {"Destroying": {"Who": "ann"}, "Volumes": True}
    court.at(1, lambda: court.declare(ids="a", volumes=True), lambda: court.create("a", pet=True, volume="vol-a"))
    court.at(2, lambda: court.declare(ids="a", volumes=True, **asked))
    court.at(3, lambda: court.oracle.deleting(CALLER, volume))
    assert court.verdict.startswith("5 never worse: held volumes: vol-a is deleted, and ['sim-1'] hold it")
    other = Court()
    other.at(1, lambda: other.declare(ids="a"), lambda: other.oracle.deleting(CALLER, volume))
    assert other.verdict.startswith("5 never worse: volumes: vol-a is deleted, and no operator has requested that")
    other.timeline.close()


def test_a_stored_version_that_is_not_what_was_submitted_is_found(court: Court) -> None:
    text = json.dumps(
        [
            {
                "metadata": {"name": "g"},
                "properties": {"Allocation": {"Size": 3}, "Instance": {"Properties": {"version": 0}}},
            }
        ]
    )
    court.at(1, lambda: court.oracle.durable.submitting("command 1", text), lambda: court.declare(4, why="command 1"))
    assert court.verdict.startswith("6 never lost: version 1 is not what command 1 declared of g")


def test_a_version_that_differs_from_what_was_acknowledged_is_found(court: Court) -> None:
    court.at(1, lambda: court.declare(1, why="command 1"))
    court.oracle.durable.acknowledged(1, "command 1", changed=True)
    assert court.verdict == ""
    court.oracle.durable.acknowledged(1, "command 2", changed=True)
    assert court.verdict.startswith("6 never lost: version 1 was acknowledged as command 2")


def test_decreasing_or_lost_versions_are_found(court: Court) -> None:
    court.at(1, lambda: court.declare(1, why="command 1"), lambda: court.declare(2, why="command 2"))
    court.oracle.durable.acknowledged(2, "command 2", changed=True)
    court.oracle.durable.acknowledged(1, "command 3", changed=False)
    assert court.verdict.startswith("6 never lost: version 1 follows 2")
    other = Court()
    other.at(1, lambda: other.declare(1))
    other.oracle.durable.check_history({})
    assert other.verdict.startswith("6 never lost: version 1 is missing")
    other.timeline.close()


def converged(court: Court) -> None:
    court.oracle.reported(CALLER, Event(type=Kind.CONVERGED, group=GROUP, message="all match"))


@pytest.mark.parametrize("how", ["missing", "unhealthy", "another version", "without its volume"])
def test_a_report_of_convergence_has_to_be_true(court: Court, how: str) -> None:
    ids, volumes = "a b", how == "without its volume"
    court.oracle.actors.epoch = 1
    court.at(1, lambda: court.declare(ids=ids, volumes=volumes))
    court.at(2, lambda: court.create("a", pet=True, volume="v" if volumes else ""))
    if how != "missing":
        court.at(2, lambda: court.create("b", pet=True))
    if how == "unhealthy":
        court.at(3, lambda: court.cloud.make_unhealthy(InstanceID("sim-2")))
    if how == "another version":
        court.cloud.machines[InstanceID("sim-2")].properties = b"{}"  # type: ignore[assignment]
        court.oracle.facts.lives[InstanceID("sim-2")].version = 7
    court.at(200, lambda: converged(court))
    assert court.verdict.startswith("7 converged means converged")


def test_a_destruction_without_a_reason_is_found(court: Court) -> None:
    court.at(1, lambda: court.declare(1), lambda: court.create("1"))
    court.at(2, lambda: court.oracle.destroying(CALLER, InstanceID("sim-1"), InstanceID("sim-1")))
    assert court.verdict.startswith("8 a reason for everything: sim-1 is destroyed without an event")


def test_a_halt_binds_within_the_bound_of_the_ledger(court: Court) -> None:
    body = json.dumps({"Epoch": 1, "BoundS": 2.0}).encode()
    court.oracle.written(Document(name="ledger", revision=1, body=body))
    court.at(1, lambda: court.declare(2), lambda: court.oracle.actors.halted(GROUP))
    court.at(2, lambda: court.create("1"))
    assert court.verdict == ""
    court.at(3.2, lambda: court.create("2"))
    assert court.verdict.startswith("9 stop means stop: create in g, which is halted")


def label(court: Court, name: str, epoch: int, *, leads_until: float = 100.0) -> str:
    court.oracle.acting(Caller(name=name, epoch=epoch, leads_until=leads_until), "label", InstanceID("sim-1"))
    return court.verdict


def test_an_older_epoch_may_not_begin_a_call_after_a_newer_one(court: Court) -> None:
    assert label(court, "n1.1", 1) == label(court, "n2.1", 2) == label(court, "n2.1", 2) == ""
    assert label(court, "n1.1", 1).startswith("1 one actor: label by n1.1 of epoch 1, after n2.1 of 2")
    assert court.oracle.actors.overlaps == 1


def test_two_may_not_act_under_one_epoch(court: Court) -> None:
    assert label(court, "n1.1", 1) == ""
    assert label(court, "n2.1", 1).startswith("1 one actor: label by n2.1 of epoch 1, after n1.1 of 1")


@pytest.mark.parametrize(
    ("epoch", "leads_until", "law"), [(0, 100.0, "holds no epoch"), (1, -0.5, "observation expired 0.50 s ago")]
)
def test_no_process_acts_without_an_epoch_or_with_an_expired_observation(
    court: Court, epoch: int, leads_until: float, law: str
) -> None:
    assert law in label(court, "n1.1", epoch, leads_until=leads_until)


def test_a_decreasing_epoch_is_found(court: Court) -> None:
    for epoch in (2, 1):
        body = json.dumps({"Epoch": epoch}).encode()
        court.oracle.written(Document(name="ledger", revision=1, body=body))
    assert court.verdict.startswith("1 one actor: epoch 1 was acquired after 2")


def test_a_membership_does_not_change_while_a_member_of_the_quorum_is_destroyed(court: Court) -> None:
    court.at(1, lambda: court.declare(ids="a b c", quorum=True))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in "abc"))
    event = Event(type=Kind.DESTROYING, instance=InstanceID("sim-1"), message="a reason")
    court.at(3, lambda: court.oracle.reported(CALLER, event))
    court.at(4, lambda: court.oracle.destroying(CALLER, InstanceID("sim-1"), InstanceID("sim-1")))
    listed = Description(id=InstanceID("sim-2"), tags={values.TAG_GROUP: GROUP})
    court.at(5, lambda: court.oracle.changing(CALLER, [listed]))
    assert court.verdict.startswith("5 never worse: majority: the membership of g changes while ['sim-1']")


@pytest.mark.parametrize("at", [10.0, 200.0])
@pytest.mark.parametrize("deeds", ["scale", "free"])
def test_a_changed_version_tag_excuses_a_destruction_if_nothing_else_shows_the_version(
    court: Court, at: float, deeds: str
) -> None:
    world = scenario.draw(1, 5.0, [deeds])
    disturbances = Disturbances(world, court.cloud, court.oracle, court.timeline)
    court.at(1, lambda: court.declare(3), *(lambda i=i: court.create(str(i)) for i in range(3)))
    court.at(at, lambda: disturbances.damage("edit tags", InstanceID("sim-1"), random.Random(1)))
    court.at(300, lambda: court.destroy("sim-1"))
    is_recorded = at > KNOWN_S and deeds == "scale"
    assert court.verdict.startswith("4 unknown is not missing: sim-1 of g is destroyed") == is_recorded


def test_an_instance_of_a_second_installation_without_its_token_may_be_adopted(court: Court) -> None:
    disturbances = Disturbances(scenario.draw(1, 5.0, ["scale"]), court.cloud, court.oracle, court.timeline)
    court.at(1, lambda: court.declare(1), *(lambda: court.cloud.foreign("g", None) for _ in range(2)))
    without_token = random.Random(2)
    court.at(100, lambda: disturbances.damage("lose tags", InstanceID("sim-1"), without_token))
    assert values.TAG_TOKEN not in court.cloud.machines[InstanceID("sim-1")].tags
    for what in ("label", "drain", "release"):
        court.at(101, lambda what=what: court.oracle.acting(CALLER, what, InstanceID("sim-1")))
    assert court.verdict == ""
    for what in ("label", "drain", "release"):
        court.at(102, lambda what=what: court.oracle.acting(CALLER, what, InstanceID("sim-2")))
    assert court.verdict.startswith("5 never worse: not ours: drain of sim-2")


def test_the_table_says_how_often_a_law_may_fail() -> None:
    court = Court()
    court.oracle.facts.permit("long empty listings")
    for number in range(exceptions.EACH):
        for _retry in range(2):
            court.oracle.facts.require(False, exceptions.ONE_PER_IDENTITY, f"{number} twice")
    assert court.verdict == ""
    court.oracle.facts.require(False, exceptions.ONE_PER_IDENTITY, "once more")
    assert court.verdict.startswith("2 one per identity: once more")
    court.timeline.close()
