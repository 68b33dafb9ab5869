"""The declaration is never lost, and two operators never overwrite each other silently."""

import asyncio

import msgspec
import pytest

from infrakit.group.orders import Eviction
from infrakit.manager.declaration import changes as orders
from infrakit.manager.declaration import record
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.declaration.store import Declaration
from infrakit.manager.declaration.warnings import warnings
from infrakit.spi import errors
from infrakit.spi.group import Group
from infrakit.spi.manager import Committed, Halt
from infrakit.spi.values import GroupID, InstanceID, Slot
from infrakit.stores.memory import MemoryStore
from tests.worlds import declared


class StoppedClock:
    def now(self) -> float:
        return 0.0


class LosesResponses(MemoryStore):
    """Writes, and loses the responses of the next `lost` writes."""

    lost = 0

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        revision = await super().replace(name=name, body=body, expected=expected)
        if self.lost:
            self.lost -= 1
            raise errors.OutcomeUnknown("no answer")
        return revision


class IsOvertaken(MemoryStore):
    """Loses a write and its response, while another replica makes a change of its own."""

    other = b""

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if not self.other:
            return await super().replace(name=name, body=body, expected=expected)
        await super().replace(name=name, body=self.other, expected=expected)
        raise errors.OutcomeUnknown("no answer")


def declaration(store: MemoryStore | None = None) -> Declaration:
    return Declaration(store or MemoryStore(), StoppedClock())


async def declare(where: Declaration, *groups: Group, expected: int | None = None, who: str = "ann") -> Committed:
    return await where.change(orders.declare(groups), what="commit", who=who, why="because", expected=expected)


async def test_a_commit_is_a_version_with_who_when_and_why() -> None:
    here = declaration()
    assert (await declare(here, declared(3))).version == 1
    version = (await here.history(10))[0]
    assert (version.who, version.why, version.what, version.groups) == ("ann", "because", "commit", ("g",))


async def test_a_change_of_another_replica_is_not_taken_for_one_whose_response_was_lost() -> None:
    store, elsewhere = IsOvertaken(), declaration()
    await declare(elsewhere, declared(7))
    here = declaration(store)
    await declare(here, declared(3))
    store.other = record.encode(elsewhere.record)
    with pytest.raises(errors.OutcomeUnknown):
        await declare(here, declared(5))
    store.other = b""
    await here.load()
    assert here.record.groups[GroupID("g")].properties.allocation.size == 7


class IsPreceded(MemoryStore):
    """Another replica writes `other` before the next write arrives."""

    other = b""

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if self.other:
            other, self.other = self.other, b""
            await super().replace(name=name, body=other, expected=expected)
        return await super().replace(name=name, body=body, expected=expected)


async def test_a_change_that_loses_its_race_is_made_to_the_version_that_has_won() -> None:
    store, elsewhere = IsPreceded(), declaration()
    other = msgspec.structs.replace(declared(7), name=GroupID("other"))
    await declare(elsewhere, other)
    here = declaration(store)
    store.other = record.encode(elsewhere.record)
    assert (await declare(here, declared(3))).version == 2
    assert (await declaration(store).load()).groups.keys() == {"g", "other"}


async def test_an_unchanged_commit_creates_no_version() -> None:
    here = declaration()
    await declare(here, declared(3))
    again = await declare(here, declared(3))
    assert (again.version, again.changes) == (1, ())


async def test_an_unchanged_commit_creates_a_version_only_if_it_revokes_a_destruction() -> None:
    here = declaration()
    await here.change(orders.declare((declared(3),)), what="commit", who="ann", why="")
    for _ in range(2):
        again = await here.change(orders.declare((declared(3),)), what="commit", who="ann", why="")
        assert (again.version, again.changes, len(await here.history(9))) == (1, (), 1)
    group = GroupID("g")
    halt = Halt(who="ann", when="", why="")
    await here.change(orders.destroy(group, halt, volumes=False), what="destroy", who="ann", why="")
    revoked = await here.change(orders.declare((declared(3),)), what="commit", who="ann", why="")
    assert revoked.version == 3, "a revoked command is a change"


async def test_of_two_commits_to_the_same_version_one_gets_a_conflict_with_the_changes() -> None:
    store = MemoryStore()
    ann, bob = declaration(store), declaration(store)
    await declare(ann, declared(3))
    await bob.load()
    await declare(ann, declared(5), expected=1)
    with pytest.raises(errors.Conflict, match=r"version 2 \(by ann: because\), not 1; .*Size: 3 -> 5"):
        await declare(bob, declared(4), expected=1, who="bob")
    assert (await ann.load()).groups[GroupID("g")].properties.allocation.size == 5


async def test_a_commit_with_a_wrong_expected_version_gets_a_conflict() -> None:
    here = declaration()
    with pytest.raises(errors.Conflict, match=r"is at version 0; there is no version 7 yet"):
        await declare(here, declared(3), expected=7)
    await declare(here, declared(3), expected=0)
    with pytest.raises(errors.Conflict, match=r"version 1 \(by ann: because\), not 0; changed since: g: "):
        await declare(here, declared(4), expected=0)


async def test_commands_without_an_expected_version_apply_to_the_newest_one() -> None:
    store = MemoryStore()
    ann, bob = declaration(store), declaration(store)
    await declare(ann, declared(3))
    halt = Halt(group=None, who="bob", when="now", why="fire")
    await asyncio.gather(
        bob.change(orders.halt(None, halt), what="halt", who="bob", why="fire"),
        ann.change(orders.scale(GroupID("g"), 9), what="scale", who="ann", why="load"),
    )
    now = await declaration(store).load()
    assert now.halt == halt
    assert now.groups[GroupID("g")].properties.allocation.size == 9


async def test_a_write_with_a_lost_response_is_detected() -> None:
    store = LosesResponses()
    store.lost = 1
    here = declaration(store)
    assert (await declare(here, declared(3))).version == 1
    assert (await declare(here, declared(4))).version == 2


async def test_a_damaged_or_newer_document_is_refused_and_not_treated_as_empty() -> None:
    for body in (b"{", b'{"Format": 99}'):
        store = MemoryStore()
        await store.replace(name=record.NAME, body=body, expected=0)
        with pytest.raises(errors.Refused):
            await declare(declaration(store), declared(3))
        assert (await store.read(name=record.NAME)).revision == 1


async def test_an_earlier_version_can_be_read() -> None:
    here = declaration()
    for size in (1, 2, 3):
        await declare(here, declared(size))
    assert (await here.at(2)).groups[GroupID("g")].properties.allocation.size == 2
    with pytest.raises(errors.NotFound):
        await here.at(7)


def changed(*changes: record.RecordChange) -> DeclarationRecord:
    now = DeclarationRecord()
    for change in changes:
        now = change(now)
    return now


def test_a_record_is_equal_after_encoding_and_decoding() -> None:
    order = Halt(group=GroupID("g"), who="ann", when="now", why="because")
    now = changed(orders.declare((declared(ids="a b"),)), orders.halt(GroupID("g"), order))
    assert record.decode(record.encode(now)) == now


def test_a_rollback_restores_the_previous_version_and_keeps_the_size() -> None:
    old, new = declared(3, version="old"), declared(5, version="new")
    now = changed(orders.declare((old,)), orders.declare((new,)), orders.rollback(GroupID("g")))
    group = now.groups[GroupID("g")]
    assert (group.hash, group.properties.allocation.size) == ("old", 5)
    assert now.orders_of(GroupID("g")).restored == "old"


def test_a_rollback_of_the_first_version_is_refused() -> None:
    with pytest.raises(errors.Refused, match="no earlier version"):
        changed(orders.declare((declared(3),)), orders.rollback(GroupID("g")))


def test_an_outdated_command_changes_nothing() -> None:
    now = changed(orders.declare((declared(3, version="newer"),)))
    outdated = orders.stop_rollout(GroupID("g"), "older", aborted=False, who="infrakit", when="now", why="it fails")
    assert outdated(now) == now
    assert orders.destroyed(GroupID("g"))(now) == now


def test_an_instance_destroyed_without_replacement_shrinks_the_group_in_the_same_change() -> None:
    eviction = Eviction(who="ann", when="now", why="because")
    cattle = changed(orders.declare((declared(3),)))
    after = orders.evict(GroupID("g"), {InstanceID("i-1"): Slot("1")}, eviction, replace=False)(cattle)
    assert after.groups[GroupID("g")].properties.allocation.size == 2
    assert after.orders_of(GroupID("g")).evictions == {InstanceID("i-1"): eviction}
    pets = changed(orders.declare((declared(ids="a b c"),)))
    after = orders.evict(GroupID("g"), {InstanceID("i-b"): Slot("b")}, eviction, replace=False)(pets)
    assert after.groups[GroupID("g")].properties.allocation.logical_ids == ("a", "c")
    kept = orders.evict(GroupID("g"), {InstanceID("i-b"): Slot("b")}, eviction, replace=True)(pets)
    assert kept.groups == pets.groups


def test_pets_have_no_size() -> None:
    with pytest.raises(errors.Refused, match="logical IDs"):
        changed(orders.declare((declared(ids="a"),)), orders.scale(GroupID("g"), 3))


def test_a_group_cannot_be_moved_to_another_provider() -> None:
    other = declared(3)
    moved = msgspec.structs.replace(
        other,
        properties=msgspec.structs.replace(
            other.properties, instance=msgspec.structs.replace(other.properties.instance, plugin="elsewhere")
        ),
    )
    with pytest.raises(errors.Refused, match="left behind"):
        changed(orders.declare((declared(3),)), orders.declare((moved,)))


def test_committing_a_group_again_revokes_its_destruction() -> None:
    order = Halt(group=GroupID("g"), who="ann", when="now", why="because")
    now = changed(
        orders.declare((declared(3),)),
        orders.destroy(GroupID("g"), order, volumes=True),
        orders.declare((declared(4),)),
    )
    assert now.orders_of(GroupID("g")).destroying is None
    assert not now.orders_of(GroupID("g")).volumes


async def test_a_store_that_lost_an_acknowledged_version_is_refused() -> None:
    here = declaration()
    await declare(here, declared(3))
    lost = declaration()
    lost.record, lost.version = here.record, here.version
    with pytest.raises(errors.Refused, match="holds declaration version 0; version 1 was read from it before"):
        await lost.load()
    with pytest.raises(errors.Refused, match="version 1 was read from it before"):
        await declare(lost, declared(5))
    assert lost.record == here.record


def test_an_automatic_rollback_revokes_no_destruction_that_an_operator_has_requested() -> None:
    order = Halt(group=GroupID("g"), who="ann", when="now", why="retired")
    now = changed(
        orders.declare((declared(3, version="old"),)),
        orders.declare((declared(3, version="bad"),)),
        orders.destroy(GroupID("g"), order, volumes=True),
    )
    assert orders.rollback(GroupID("g"), "bad")(now) == now
    by_operator = orders.rollback(GroupID("g"))(now)
    assert by_operator.orders_of(GroupID("g")).destroying is None
    assert any("is revoked" in each for each in warnings(now, by_operator))


def test_an_automatic_rollback_returns_to_the_proven_version_and_lifts_no_command_of_an_operator() -> None:
    g = GroupID("g")
    halt = Halt(group=g, who="ann", when="now", why="fire")
    now = changed(
        orders.declare((declared(3, version="good"),)),
        orders.prove(g, "good"),
        orders.declare((declared(3, version="bad"),)),
        orders.declare((declared(5, version="worse"),)),
        orders.halt(g, halt),
    )
    back = orders.rollback(g, "worse")(now)
    assert (back.groups[g].hash, back.groups[g].properties.allocation.size) == ("good", 5)
    assert back.orders_of(g).halt == halt
    assert orders.rollback(g, "bad")(now) == now, "another version was declared meanwhile"
    destroying = orders.destroy(g, halt, volumes=True)(now)
    assert orders.rollback(g, "worse")(destroying) == destroying
    for aborted in (False, True):
        stopped = orders.stop_rollout(g, "", aborted=aborted, who="ann", when="now", why="lunch")(now)
        assert orders.rollback(g, "worse")(stopped) == stopped
        failed = orders.stop_rollout(g, "worse", aborted=False, failed=True, who="infrakit", when="now", why="sick")
        roll = failed(stopped).orders_of(g).roll
        assert roll is not None
        assert (roll.who, roll.aborted, roll.failed) == ("ann", aborted, True)
    assert orders.rollback(g)(now).groups[g].hash == "bad", "an operator names what is restored: the previous version"
    assert orders.rollback(g, "good")(back) == back, "the proven version itself has no other to return to"


def test_an_automatic_rollback_keeps_the_permission_to_replace_and_an_operator_s_own_change_reports_what_it_lifts() -> (
    None
):
    g = GroupID("g")
    halt = Halt(group=g, who="ann", when="now", why="fire")
    good = changed(orders.declare((declared(3, version="good"),)), orders.prove(g, "good"))
    permitted = orders.resume(g, {InstanceID("i-1"): "t1"}, "now")(orders.declare((declared(3, version="bad"),))(good))
    assert orders.rollback(g, "bad")(permitted).orders_of(g).despite_unhealthy == ("i-1",)
    assert warnings(permitted, orders.rollback(g, "bad")(permitted)) == ()
    changes = (orders.rollback(g), orders.declare((declared(3, version="new"),)), orders.free(g))
    for change in (*changes, orders.scale(g, 4)):
        assert warnings(permitted, change(permitted)) == ("the permission to replace i-1 of g is revoked",)
    for aborted, what in ((False, "pause"), (True, "abort")):
        stopped = orders.stop_rollout(g, "", aborted=aborted, who="ann", when="now", why="lunch")(good)
        (warning,) = warnings(stopped, orders.declare((declared(3, version="new"),))(stopped))
        assert warning == f"the {what} of the rolling update of g, by ann at now (lunch), is lifted"
        assert warnings(stopped, orders.resume(g, {}, "now")(stopped)) == ()
        assert warnings(stopped, orders.scale(g, 4)(stopped)) == ()
    halted = orders.halt(g, halt)(good)
    assert warnings(halted, orders.free(g)(halted)) == ("the halt of g, by ann at now (fire), is lifted",)
    assert warnings(halted, orders.halt(g, None)(halted)) == ()


def test_more_instances_are_not_named_at_once_than_are_stored() -> None:
    g, order = GroupID("g"), Eviction(who="ann", when="now", why="old")
    now = changed(orders.declare((declared(500),)))
    named: dict[InstanceID, Slot | None] = {InstanceID(f"i-{n}"): Slot(f"{n}") for n in range(200)}
    full = orders.evict(g, named, order, replace=False)(now)
    assert full.groups[g].properties.allocation.size == 300
    one: dict[InstanceID, Slot | None] = {InstanceID("i-200"): Slot("200")}
    for before, more in ((now, named | one), (full, one)):
        with pytest.raises(errors.Refused, match="at most 200 at a time"):
            orders.evict(g, more, order, replace=False)(before)
    assert orders.evict(g, named, order, replace=True)(full).orders_of(g).evictions.keys() == named.keys()


def test_only_the_declared_version_is_recorded_as_proven_and_a_freed_group_has_none() -> None:
    g = GroupID("g")
    now = changed(orders.declare((declared(3, version="good"),)), orders.prove(g, "other"))
    assert now.proven == {}
    now = orders.prove(g, "good")(now)
    assert now.proven == now.groups
    assert orders.prove(g, "good")(now) is now
    assert orders.free(g)(now).proven == {}
    assert orders.prove(g, "good")(orders.free(g)(now)).proven == {}


async def test_recording_a_proven_version_is_no_conflict_with_a_commit_that_expects_the_version_before() -> None:
    here, g = declaration(), GroupID("g")
    await declare(here, declared(3))
    group = here.record.groups[g]
    await here.change(orders.prove(g, group.hash), what="proven", who="infrakit", why="healthy")
    assert (await declare(here, declared(4), expected=1)).version == 3
    await here.change(lambda r: msgspec.structs.replace(r, proven={}), what="proven", who="infrakit", why="a test")
    with pytest.raises(errors.Conflict, match=r"version 4 \(by ann: because\), not 1; changed since: .*Size: 3 -> 4"):
        await declare(here, declared(5), expected=1)


@pytest.mark.parametrize("replace", [True, False])
def test_destroying_an_instance_does_not_revoke_the_destruction_of_its_group(replace: bool) -> None:
    order = Halt(group=GroupID("g"), who="ann", when="now", why="retired")
    now = changed(orders.declare((declared(3),)), orders.destroy(GroupID("g"), order, volumes=True))
    eviction = Eviction(who="ann", when="now", why="first")
    after = orders.evict(GroupID("g"), {InstanceID("i-1"): Slot("1")}, eviction, replace=replace)(now)
    assert after.orders_of(GroupID("g")).destroying == order
    assert after.orders_of(GroupID("g")).volumes
