"""Rehearsals: what is simulated of a declaration, the exercises, and the runs in virtual time."""

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infrakit.simulation.rehearsal import exercises, groups, world
from infrakit.simulation.rehearsal.exercises import Exercise
from infrakit.simulation.rehearsal.groups import Member, RehearsedGroup
from infrakit.simulation.rehearsal.outcome import ExerciseOutcome
from infrakit.simulation.rehearsal.providers import RehearsedPlugins
from infrakit.spi.errors import InvalidSpec
from infrakit.spi.flavor import Quorum, Voters
from infrakit.spi.instance import Identified, Inspects, Instance
from infrakit.spi.values import Attachment

VOLUME = [{"ID": "vol-a", "Type": "volume"}]


def cattle(name: str, size: int, *, tags: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return _group(name, {"Size": size}, {}, tags or {}, **more)


def pets(name: str, ids: str, *, flavor: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return _group(name, {"LogicalIDs": ids.split()}, flavor or {}, {}, **more)


def _group(
    name: str,
    allocation: dict[str, Any],
    flavor: dict[str, Any],
    tags: dict[str, str],
    *,
    plugin: str = "local",
    flavor_plugin: str = "vanilla",
    machine: dict[str, Any] | None = None,
    **policies: Any,
) -> dict[str, Any]:
    boot = {"Init": "true"} if plugin == "local" and flavor_plugin == "vanilla" else {}
    properties = {
        "Allocation": allocation,
        "Instance": {"Plugin": plugin, "Properties": machine or {}},
        "Flavor": {"Plugin": flavor_plugin, "Properties": boot | flavor},
        **policies,
    }
    return {"kind": "group", "metadata": {"name": name, "tags": tags}, "properties": properties}


def read(home: Path, *declared: dict[str, Any], boot_s: float | None = None) -> tuple[RehearsedGroup, ...]:
    return asyncio.run(groups.read(json.dumps(declared), "doc", home=home, boot_s=boot_s))


def run(
    rehearsed: Sequence[RehearsedGroup], exercise: Exercise, *, seed: int = 1, within_s: float = 3600.0
) -> ExerciseOutcome:
    return world.rehearse(rehearsed, exercise, seed=seed, within_s=within_s)


# -- what is simulated -------------------------------------------------------------------------------------------------


def test_a_group_keeps_its_policies_and_its_shape(tmp_path: Path) -> None:
    healing = {"MaxUnhealthy": "50%", "BootGrace": "40s"}
    flavor = {"Quorum": True, "Attachments": {"a": VOLUME}}
    (group,) = read(tmp_path, pets("db", "a b c", flavor=flavor, Healing=healing, Updating={"MaxUnavailable": 3}))
    assert (group.size, group.quorum, group.boot_s) == (3, True, 20.0)
    assert (group.max_unhealthy, group.unavailable) == (1, 1), "a quorum loses a minority, whatever is declared"
    assert group.attachments["a"] == (Attachment(id="vol-a", type="volume"),)  # type: ignore[index]
    simulated = group.simulated()
    assert simulated.properties.healing == group.declared.properties.healing
    assert simulated.properties.updating == group.declared.properties.updating
    assert simulated.properties.allocation == group.declared.properties.allocation
    assert b"NeverHealthy" not in bytes(simulated.properties.instance.properties)
    assert b"NeverHealthy" in bytes(group.simulated(bad=True).properties.instance.properties)


def test_a_flavor_with_a_member_list_is_replaced_by_one(tmp_path: Path) -> None:
    etcd, plain = read(
        tmp_path,
        pets("etcd", "10.0.0.1 10.0.0.2 10.0.0.3", flavor_plugin="etcd"),
        pets("db", "a b c", flavor={"Quorum": True}),
    )
    assert (etcd.quorum, etcd.lists_voters, len(etcd.attachments)) == (True, True, 3)
    assert (plain.quorum, plain.lists_voters) == (True, False)


def test_a_provider_is_replaced_by_one_with_the_same_optional_methods(tmp_path: Path) -> None:
    local, simulator = read(tmp_path, cattle("a", 1), cattle("b", 1, plugin="simulator"))
    shapes = {"local": local.provider, "simulator": simulator.provider}

    async def found() -> tuple[Instance, Instance, object]:
        plugins = RehearsedPlugins(shapes, random.Random(1))
        return await plugins.instance("local"), await plugins.instance("simulator"), await plugins.flavor("simulated")

    one, other, flavor = asyncio.run(found())
    assert isinstance(one, Inspects)
    assert isinstance(one, Identified)
    assert not isinstance(other, Identified), "the simulator plugin names no account"
    assert isinstance(flavor, Quorum)
    assert not isinstance(flavor, Voters)
    assert simulator.provider.ordinary.lag_max == 30.0
    assert local.provider.ordinary.lag.high == 0.0, "local promises to list every change at once"


def test_the_tags_of_a_member_are_those_of_its_group_its_flavor_and_its_own(tmp_path: Path) -> None:
    own = {"Tags": {"zone": "b"}, "ByLogicalID": {"a": {"Tags": {"zone": "c"}}}}
    web, db = read(tmp_path, cattle("web", 2, tags={"zone": "a"}), pets("db", "a b", flavor=own))
    assert web.tags(Member(web.name, "1")) == {"zone": "a"}
    assert [db.tags(each)["zone"] for each in db.members] == ["c", "b"]


# -- exercises ---------------------------------------------------------------------------------------------------------


def test_without_options_all_that_apply_are_rehearsed(tmp_path: Path) -> None:
    def options(*declared: dict[str, Any]) -> list[str]:
        return [each.option for each in exercises.applicable(read(tmp_path, *declared))]

    provider = ["--slow 10s", "--empty 120s", "--errors 120s", "--bad-version"]
    assert options(cattle("web", 1)) == ["--kill 1", "--unhealthy 1", *provider]
    assert options(cattle("web", 10, tags={"zone": "a"})) == [
        "--kill 1",
        "--unhealthy 1",
        "--kill-share 30%",
        *provider,
    ]
    zones = options(cattle("web-a", 1, tags={"zone": "a"}), cattle("web-b", 1, tags={"zone": "b"}))
    assert zones == ["--kill 1", "--unhealthy 1", "--lose-zone zone=a", "--lose-zone zone=b", *provider]
    assert options(cattle("web", 0)) == []


def test_a_zone_is_a_tag_or_a_list_of_members(tmp_path: Path) -> None:
    declared = read(tmp_path, cattle("web", 2, tags={"zone": "a"}), pets("db", "a b"))
    names = {f"{each.group}/{each.name}" for each in exercises.lose_zone("zone=a", declared).chosen}
    assert names == {"web/1", "web/2"}
    names = {f"{each.group}/{each.name}" for each in exercises.lose_zone("b, web/2", declared).chosen}
    assert names == {"db/b", "web/2"}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("kill", "c", "--kill: no group declares the member 'c' (the members are: a, b, web/1, web/2)"),
        ("kill", "web/3", "--kill: no group declares the member 'web/3' (did you mean web/2?)"),
        ("kill", "0", "--kill: no group declares the member '0' (the members are: a, b, web/1, web/2)"),
        ("unhealthy", "1", ""),
        ("kill_share", "30", "--kill-share: '30' is not a percentage (such as 30%)"),
        ("lose_zone", "zone=b", "--lose-zone: no member has the tag zone=b (did you mean zone=a?)"),
        ("lose_zone", "rack=b", "--lose-zone: no member has the tag rack=b (the declared tags are: zone=a)"),
        ("lose_zone", "a,x", "--lose-zone: no group declares the member 'x' (the members are: a, b, web/1, web/2)"),
    ],
)
def test_a_member_or_zone_that_does_not_exist_is_an_error_with_what_there_is(
    tmp_path: Path, option: str, value: str, message: str
) -> None:
    declared = read(tmp_path, cattle("web", 2, tags={"zone": "a"}), pets("db", "a b"))
    choose = getattr(exercises, option)
    if not message:
        assert choose(value, declared).count == 1
        return
    with pytest.raises(InvalidSpec) as wrong:
        choose(value, declared)
    assert str(wrong.value) == message


def test_a_share_is_at_least_one_member(tmp_path: Path) -> None:
    small, large = read(tmp_path, cattle("small", 2), cattle("large", 10))
    exercise = exercises.kill_share("30%", [small, large])
    assert (exercise.number(small), exercise.number(large)) == (1, 3)
    assert exercises.kill("5", [small, large]).number(small) == 2


# -- runs --------------------------------------------------------------------------------------------------------------

CLUSTER = (
    pets("db", "a b c", flavor={"Quorum": True, "Attachments": {"a": VOLUME}}),
    cattle("web", 5, Updating={"MaxUnavailable": 2, "OnFailure": "rollback"}),
)


def test_every_exercise_keeps_the_promises_of_a_sound_declaration(tmp_path: Path) -> None:
    declared = read(tmp_path, *CLUSTER)
    for exercise in [*exercises.applicable(declared), exercises.lose_zone("a,web/1,web/2", declared)]:
        outcome = run(declared, exercise)
        assert outcome.broken == (), exercise.option
        assert all(each.whole_after_s is not None for each in outcome.groups), exercise.option
        assert any(line.what in {"fault", "committed"} for line in outcome.timeline)


def test_the_same_seed_repeats_the_same_run(tmp_path: Path) -> None:
    declared = read(tmp_path, *CLUSTER)
    exercise = exercises.failing(60.0)
    assert run(declared, exercise, seed=3) == run(declared, exercise, seed=3)
    assert run(declared, exercise, seed=3) != run(declared, exercise, seed=4)


def test_the_named_member_is_killed_and_returns_with_its_volume(tmp_path: Path) -> None:
    declared = read(tmp_path, *CLUSTER)
    outcome = run(declared, exercises.kill("a", declared))
    faults = [(line.group, line.member) for line in outcome.timeline if line.what == "fault"]
    assert faults == [("db", "a")]
    db, web = outcome.groups
    assert (db.lowest, db.size, db.majority) == (2, 3, 2)
    assert db.whole_after_s is not None
    assert db.whole_after_s > 0
    assert (web.lowest, web.whole_after_s) == (5, 0.0)


def test_a_lost_zone_has_no_capacity_for_a_while(tmp_path: Path) -> None:
    declared = read(tmp_path, *CLUSTER)
    outcome = run(declared, exercises.lose_zone("a", declared))
    assert outcome.groups[0].whole_after_s is not None
    assert outcome.groups[0].whole_after_s > exercises.ZONE_CLOSED_S
    assert any("no capacity" in line.message for line in outcome.timeline)


def test_a_failed_version_takes_no_more_than_max_unavailable(tmp_path: Path) -> None:
    outcome = run(read(tmp_path, *CLUSTER), exercises.bad_version())
    assert [each.lowest for each in outcome.groups] == [2, 3]
    assert outcome.broken == ()
    messages = " ".join(line.message for line in outcome.timeline)
    assert "rollback by infrakit" in messages
    assert "pause by infrakit" in messages


def test_a_long_back_off_does_not_make_a_stopped_update_count_as_running(tmp_path: Path) -> None:
    declared = read(tmp_path, cattle("web", 2, Healing={"BackoffMax": "2h"}))
    assert run(declared, exercises.bad_version(), within_s=600.0).broken == ()


def test_a_declaration_that_cannot_be_healed_breaks_a_promise(tmp_path: Path) -> None:
    slow = read(tmp_path, cattle("web", 2, Healing={"BootGrace": "10s", "UnhealthyAfter": "10s"}), boot_s=1200.0)
    (broken,) = run(slow, exercises.kill("1", slow), within_s=900.0).broken
    assert broken.promise == "whole"
    assert broken.why.startswith("never whole after the commit: 0 of 2 were healthy")
    never = read(tmp_path, cattle("web", 2, plugin="simulator", machine={"NeverHealthy": True}))
    assert {each.promise for each in run(never, exercises.kill("1", never), within_s=600.0).broken} == {"whole"}


def test_more_unhealthy_members_than_max_unhealthy_are_not_replaced_and_the_reason_is_reported(tmp_path: Path) -> None:
    declared = read(tmp_path, cattle("web", 10, Healing={"MaxUnhealthy": 2}))
    (broken,) = run(declared, exercises.unhealthy("3", declared), within_s=900.0).broken
    assert (broken.promise, broken.group) == ("whole", "web")
    assert "7 of 10 were healthy" in broken.why
    assert "3 of 10 members are unhealthy, and MaxUnhealthy is 2" in broken.why
    assert run(declared, exercises.unhealthy("2", declared)).broken == ()


def test_a_group_that_is_lost_whole_returns_only_if_the_provider_names_its_account(tmp_path: Path) -> None:
    local, other = read(tmp_path, cattle("a", 4)), read(tmp_path, cattle("b", 4, plugin="simulator"))
    assert run(local, exercises.kill_share("100%", local)).broken == ()
    (broken,) = run(other, exercises.kill_share("100%", other), within_s=900.0).broken
    assert "4 of 4 members have vanished" in broken.why
