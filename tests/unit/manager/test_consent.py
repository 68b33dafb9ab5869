"""Consent: a commit that destroys many members without replacing them needs their number."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from infrakit.manager.declaration import changes, consent
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.declaration.store import Declaration
from infrakit.spec import document
from infrakit.spi import errors
from infrakit.spi.group import Group
from infrakit.spi.values import GroupID, InstanceID
from tests import worlds
from tests.stage import SlowValidation, Stage, cattle, in_virtual_time, pets
from tests.unit.manager.test_compat_group import done, refused, served, spec

SUBNET = "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5"
MISTYPED = SUBNET.replace("10.0.0", "10.0.1")


def number(old: Group, new: Group, *, quorum: bool = False) -> int:
    name = GroupID("g")
    return consent.needed(consent.losses({name: old}, {name: new}, lambda _group: quorum))


@pytest.mark.parametrize(
    ("before", "after", "needed"),
    [
        (3, 1, 0),
        (3, 0, 3),
        (10, 7, 0),
        (10, 6, 4),
        (9, 6, 3),
        (100, 70, 0),
        (100, 1, 99),
        (10_000, 20, 9_980),
        (20, 10_000, 0),
        (5, 5, 0),
    ],
)
def test_shrinking_cattle_by_more_than_two_and_30_percent_needs_consent(before: int, after: int, needed: int) -> None:
    assert number(worlds.declared(before), worlds.declared(after)) == needed


@pytest.mark.parametrize(
    ("before", "after", "quorum", "needed"),
    [
        ("a b c d e", "a b c", False, 0),
        ("a b c d e", "a b", False, 3),
        ("a b c d e", "f g h i j", False, 5),  # what is declared instead has another identity
        ("a b c", "a b d", True, 0),
        ("a b c", "a d e", True, 2),  # a majority, though not more than two
        ("a b c d e", "a b c f g", True, 0),
        ("a b c d e", "a b f g h", True, 3),
        ("a", "b", True, 1),
        ("a b", "a", True, 0),
        ("a b c", "c b a", True, 0),
        ("a b c", "a b c d e f g", True, 0),
    ],
)
def test_logical_ids_that_are_not_declared_any_more_are_counted(
    before: str, after: str, quorum: bool, needed: int
) -> None:
    assert number(worlds.declared(ids=before), worlds.declared(ids=after), quorum=quorum) == needed


def test_cattle_that_become_pets_are_counted_and_pets_that_become_cattle_remain() -> None:
    assert number(worlds.declared(4), worlds.declared(ids="a b c d")) == 4
    assert number(worlds.declared(ids="a b c d"), worlds.declared(4)) == 0
    assert number(worlds.declared(ids="a b c d"), worlds.declared(1)) == 3


def test_a_new_version_a_new_group_and_a_group_that_is_not_declared_any_more_need_none() -> None:
    old, new, name = worlds.declared(10), worlds.declared(10, version="another"), GroupID("g")
    assert number(old, new) == 0
    assert consent.losses({}, {name: new}, lambda _group: True) == ()
    assert consent.losses({name: old}, {}, lambda _group: True) == ()


def test_one_number_is_for_all_groups_and_decides_by_the_newest_record() -> None:
    def groups(a: int, b: int) -> tuple[Group, ...]:
        return tuple(
            msgspec.structs.replace(worlds.declared(size), name=GroupID(name)) for name, size in (("a", a), ("b", b))
        )

    declared = changes.declare(groups(10, 10))(DeclarationRecord())
    shrink = changes.declare(groups(2, 9))

    def consented(destroys: int) -> DeclarationRecord:
        command = consent.command("commit", "my file.yaml", "it's old")
        return consent.with_consent(shrink, destroys, is_quorum=lambda _group: False, command=command)(declared)

    for destroys in (0, 8):
        with pytest.raises(errors.Refused) as refusal:
            consented(destroys)
        assert "8 of 10 members of the group a (without consent at most 3)" in refusal.value.what
        assert "1 of 10 members of the group b" in refusal.value.what
        assert ("--destroys 8 is not enough" in refusal.value.what) == (destroys == 8)
        assert refusal.value.remedy.endswith("""infrakit commit 'my file.yaml' -m 'it'"'"'s old' --destroys 9""")
    assert consented(9) == consented(10)
    unchanged = changes.declare(groups(2, 9))(declared)  # another replica has committed the same meanwhile
    assert consent.with_consent(shrink, 0, is_quorum=lambda _group: False, command="")(unchanged) == unchanged


@in_virtual_time
async def test_a_commit_a_plan_and_a_restore_ask_for_consent() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.commit(cattle("web", 10))
        await stage.converged()
        with pytest.raises(
            errors.Refused, match=r"7 of 10 members of the group web.*infrakit commit doc .*--destroys 7"
        ):
            await stage.commit(cattle("web", 3), destroys=0)
        planned = await stage.operator.plan(text=json.dumps([cattle("web", 3)]), source="doc")
        assert planned.destroys == 7
        assert planned.consent.endswith("infrakit commit doc --destroys 7")
        with pytest.raises(errors.Refused, match=r"infrakit restore 1 -m older --destroys 7"):
            await stage.operator.restore(version=1, who="ann", why="older", destroys=6)
        assert stage.replica.declaration.version == 2
        await stage.operator.restore(version=1, who="ann", why="older", destroys=7)
        await stage.until(lambda: len(stage.alive("web")) == 3)
        nothing = await stage.operator.plan(text=json.dumps([cattle("web", 2)]), source="doc")
        assert (nothing.destroys, nothing.consent) == (0, "")


@in_virtual_time
async def test_consent_counts_from_what_another_commit_has_declared_meanwhile() -> None:
    """Ten become eight, which needs none; while that is validated, another replica declares a hundred."""
    async with Stage(flavor_class=SlowValidation) as stage:
        await stage.commit(cattle("web", 10))
        other = Declaration(stage.store, stage.clock)
        await other.load()
        commit = asyncio.create_task(stage.commit(cattle("web", 8), destroys=0))
        await asyncio.sleep(0.5)
        (larger,) = document.parse(json.dumps([cattle("web", 100)]), source="doc")
        await other.change(changes.declare((larger,)), what="commit", who="bob", why="a test")
        with pytest.raises(errors.Refused, match=r"92 of 100 members of the group web .*--destroys 92"):
            await commit
        await stage.until(lambda: stage.replica.declaration.record.groups[GroupID("web")] == larger)
        assert (await stage.commit(cattle("web", 8), destroys=92)).version == 3


@in_virtual_time
async def test_a_mistyped_subnet_of_a_quorum_needs_consent_and_its_new_version_does_not() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", SUBNET, quorum=True), destroys=0)
        await stage.commit(pets("db", SUBNET, quorum=True, version=1), destroys=0)
        with pytest.raises(errors.Refused, match=r"5 of 5 members of the quorum db \(without consent at most 2\)"):
            await stage.commit(pets("db", MISTYPED, quorum=True), destroys=4)
        # Whether it is a quorum now counts as much as whether it will be one.
        ids = SUBNET.rsplit(" ", 3)[0]
        for quorum in (True, False):
            with pytest.raises(errors.Refused, match="3 of 5 members of the quorum db"):
                await stage.commit(pets("db", f"{ids} 10.1.0.1 10.1.0.2 10.1.0.3", quorum=quorum), destroys=0)


class Silent:
    """Finds no plugin."""

    async def flavor(self, name: str) -> Any:
        raise errors.Unreachable(f"{name} does not answer")


def test_a_group_counts_as_a_quorum_if_its_flavor_does_not_answer() -> None:
    from infrakit.manager.declaration import quorums

    group = worlds.declared(ids="a b c")
    assert asyncio.run(quorums.classify([group], Silent()))(group)  # type: ignore[arg-type]


@in_virtual_time
async def test_commands_that_name_what_they_destroy_are_their_own_consent() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 10), pets("db", "a b c d e", quorum=True))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.until(lambda: len(stage.alive("web")) == 1)
        await stage.operator.destroy(group=GroupID("web"), who="ann", why="retired")
        await stage.until(lambda: GroupID("web") not in stage.replica.declaration.record.groups)
        await stage.operator.free(group=GroupID("db"), who="ann", why="by hand")


@in_virtual_time
async def test_a_rollback_changes_no_membership() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.commit(pets("db", "a b c d e f g h i", version=1))
        rolled_back = await stage.operator.rollback(group=GroupID("db"), who="ann", why="it leaks")
        assert all("Allocation" not in change.path for change in rolled_back.changes)


@in_virtual_time
async def test_the_original_s_commit_names_the_command_and_its_other_commands_are_consent() -> None:
    async with Stage() as stage:
        await stage.replica.active.wait()
        wire = served(stage)
        await done(wire, "Group.CommitGroup", Spec=spec(10))
        await stage.converged()
        message = await refused(wire, "Group.CommitGroup", Spec=spec(2))
        assert "8 of 10 members of the group workers" in message
        assert "infrakit commit FILE --destroys 8" in message
        preview = await done(wire, "Group.CommitGroup", Spec=spec(2), Pretend=True)
        assert preview["Details"].startswith("Terminating 8 instances to reduce the group size to 2; refused: ")
        victims = sorted(m.id for m in stage.simulator.live())[:4]
        await done(wire, "Group.DestroyInstances", ID="workers", Instances=victims)
        await done(wire, "Group.SetSize", ID="workers", Size=1)
        await stage.until(lambda: len(stage.simulator.live()) == 1)
        await done(wire, "Group.DestroyGroup", ID="workers")


@in_virtual_time
async def test_a_quorum_is_not_emptied_by_destroying_its_last_members_without_replacement() -> None:
    async with Stage() as stage:
        await stage.replica.active.wait()
        wire = served(stage)
        await stage.commit(pets("db", "a b", quorum=True), pets("cache", "x"))
        await stage.converged()
        members = {slot: machine.id for slot, machine in stage.alive("db").items()}
        message = await refused(wire, "Group.DestroyInstances", ID="db", Instances=sorted(members.values()))
        assert "db.Allocation.LogicalIDs would be empty" in message
        assert "infrakit group destroy db" in message

        async def evict(instance: str) -> None:
            await stage.operator.destroy_instance(
                instance=InstanceID(instance), replace=False, who="ann", why="one too many"
            )

        await evict(members["b"])
        with pytest.raises(
            errors.Refused, match=r"db\.Allocation\.LogicalIDs would be empty.*infrakit group destroy db"
        ):
            await evict(members["a"])
        await evict(stage.alive("cache")["x"].id)  # no quorum
        await stage.until(lambda: not stage.alive("cache"))
        with pytest.raises(errors.InvalidSpec) as invalid:
            await stage.commit(pets("db", "", quorum=True))
        assert [problem.path for problem in invalid.value.problems] == ["groups[0].properties.Allocation.LogicalIDs"]
