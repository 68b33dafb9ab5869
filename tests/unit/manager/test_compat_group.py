"""The original's interfaces to the manager, called as its command line calls them, on the production replica."""

import asyncio
from typing import Any

import pytest

from infrakit.events.topics import JournalTopics
from infrakit.manager.api.roster import ReplicaEntry, Roster
from infrakit.manager.compat.group import GroupPlugin
from infrakit.manager.compat.stack import GroupController, ManagerStack
from infrakit.rpc import caller
from infrakit.rpc.caller import Caller
from infrakit.rpc.dispatch import Dispatcher
from infrakit.spi.values import GroupID
from tests.stage import Stage, cattle, in_virtual_time, pets
from tests.unit.rpc.asking import ask

WORKERS = GroupID("workers")


def served(stage: Stage) -> Dispatcher:
    groups = GroupPlugin(stage.replica, stage.operator)
    entry = ReplicaEntry(address="/run/group", version="1", format=1, host="h", pid=1, started="")
    roster = Roster(stage.store, stage.replica.name, entry)
    return Dispatcher(
        {
            ".": (stage.operator, ManagerStack(stage.replica, roster), JournalTopics(stage.journal)),
            "groups": (groups, GroupController(stage.replica, groups)),
        }
    )


def spec(size: int = 2, *, group: str = "workers", version: int = 0, **allocation: Any) -> dict[str, Any]:
    declared = cattle(group, size, version=version)["properties"] | ({"Allocation": allocation} if allocation else {})
    return {"ID": group, "Properties": declared}


async def done(dispatcher: Dispatcher, method: str, **params: Any) -> dict[str, Any]:
    reply = await ask(dispatcher, method, {"Name": "group/groups"} | params)
    assert "error" not in reply, reply
    result: dict[str, Any] = reply["result"]
    return result


async def refused(dispatcher: Dispatcher, method: str, **params: Any) -> str:
    reply = await ask(dispatcher, method, {"Name": "group/groups"} | params)
    message: str = reply["error"]["message"]
    return message


@in_virtual_time
async def test_a_group_from_its_commit_to_its_destruction() -> None:
    async with Stage() as stage:
        await stage.replica.active.wait()
        wire = served(stage)
        preview = await done(wire, "Group.CommitGroup", Spec=spec(), Pretend=True)
        assert (preview["ID"], preview["Details"]) == ("workers", "Managing 2 instances")
        assert await stage.operator.history() == ()
        await done(wire, "Group.CommitGroup", Spec=spec())
        await stage.converged()
        described = (await done(wire, "Group.DescribeGroup", ID="workers"))["Description"]
        assert described["Converged"] is True
        assert sorted(each["ID"] for each in described["Instances"]) == sorted(i.id for i in stage.simulator.live())
        assert (await done(wire, "Group.Size", ID="workers"))["Size"] == 2
        await done(wire, "Group.SetSize", ID="workers", Size=3)
        await stage.converged()
        victim = stage.simulator.live()[0].id
        await done(wire, "Group.DestroyInstances", ID="workers", Instances=[victim])
        await stage.converged()
        assert len(stage.simulator.live()) == 2
        assert victim not in {i.id for i in stage.simulator.live()}
        assert [g["ID"] for g in (await done(wire, "Group.InspectGroups", ID=""))["Groups"]] == ["workers"]
        await done(wire, "Group.DestroyGroup", ID="workers")
        await stage.until(lambda: not stage.simulator.live() and not stage.replica.declaration.record.groups)


@in_virtual_time
async def test_the_instances_of_a_freed_group_keep_running() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("workers", 2))
        await stage.converged()
        await done(served(stage), "Group.FreeGroup", ID="workers")
        assert (await stage.operator.status()).groups == ()
        assert len(stage.simulator.live()) == 2


@in_virtual_time
async def test_planned_changes_are_described_as_by_the_original() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("workers", 3))
        await stage.converged()
        wire = served(stage)
        expected = {
            (3, 0): "Noop",
            (5, 0): "Adding 2 instances to increase the group size to 5",
            (1, 0): "Terminating 2 instances to reduce the group size to 1",
            (3, 1): "Performing a rolling update on 3 instances",
            (2, 1): "Terminating 1 instances to reduce the group size to 2, "
            "then performing a rolling update on 2 instances",
            (4, 1): "Performing a rolling update on 3 instances, "
            "then adding 1 instances to increase the group size to 4",
        }
        for (size, version), details in expected.items():
            preview = await done(wire, "Group.CommitGroup", Spec=spec(size, version=version), Pretend=True)
            assert preview["Details"] == details


@in_virtual_time
async def test_an_invalid_request_is_an_error_and_changes_nothing() -> None:
    async with Stage() as stage:
        await stage.commit(pets("workers", "a b"))
        await stage.converged()
        wire = served(stage)
        for method in ("Group.DescribeGroup", "Group.FreeGroup", "Group.DestroyGroup"):
            assert await refused(wire, method, ID="nope") == "Group 'nope' is not being watched"
        assert "has logical IDs and no size" in await refused(wire, "Group.SetSize", ID="workers", Size=3)
        assert "has no instance i-9" in await refused(wire, "Group.DestroyInstances", ID="workers", Instances=["i-9"])
        wrong = await refused(wire, "Group.CommitGroup", Spec=spec(Sise=3))
        assert 'groups[0].Properties.Properties.Allocation.Sise: unknown field (did you mean "Size"?)' in wrong
        assert "not implemented" in (await ask(wire, "Manager.Enforce", {"Specs": []}))["error"]["message"]
        assert len(await stage.operator.history()) == 1


@in_virtual_time
async def test_groups_are_announced_as_objects_while_they_are_declared() -> None:
    async with Stage() as stage:
        await stage.replica.active.wait()
        wire = served(stage)
        assert [o["Name"] for o in wire.announced["Group/0.1.1"]] == ["groups"]
        await done(wire, "Group.CommitGroup", Spec=spec())
        for kind in ("Group/0.1.1", "Controller/0.1.1"):
            assert [o["Name"] for o in wire.announced[kind]] == ["groups", "workers"]
        for name in ("group/workers", "group/groups", "zzz/groups", "group", ""):
            assert (await done(wire, "Group.Size", Name=name, ID="workers"))["Size"] == 2


@in_virtual_time
async def test_groups_as_objects_of_a_controller() -> None:
    async with Stage() as stage:
        await stage.replica.active.wait()
        wire = served(stage)
        entry = {
            "kind": "group",
            "version": "",
            "metadata": {"name": "group/workers", "tags": None},
            "properties": spec()["Properties"],
        }
        planned = await done(wire, "Controller.Plan", Operation=0, Spec=entry)
        assert planned["Plan"] == {"Message": ["Managing 2 instances"]}
        committed = await done(wire, "Controller.Commit", Operation=0, Spec=entry)
        assert committed["Object"]["metadata"] == entry["metadata"]
        assert committed["Object"]["state"]["Converged"] is False
        await stage.converged()
        (found,) = (await done(wire, "Controller.Describe", Metadata=None))["Objects"]
        assert (found["kind"], found["version"]) == ("group", "Group/0.1.1")
        assert found["metadata"] == {"id": "workers", "name": "group/workers", "tags": None}
        assert len(found["state"]["Instances"]) == 2
        one = await done(wire, "Controller.Describe", Name="group/workers", Metadata={"name": "workers"})
        assert one["Objects"] == [found]
        assert "Destroying 2" in str(await done(wire, "Controller.Plan", Operation=1, Spec=entry))
        (specs,) = (await ask(wire, "Manager.Specs"))["result"]["Specs"]
        assert specs["metadata"] == {"name": "workers", "tags": None}
        (freed,) = (await done(wire, "Controller.Free", Metadata={"name": "workers"}))["Objects"]
        assert freed["metadata"]["id"] == "workers"
        await done(wire, "Controller.Commit", Operation=0, Spec=entry)
        await done(wire, "Controller.Commit", Operation=1, Spec=entry)
        await stage.until(lambda: not stage.simulator.live())
        assert "manages groups" in await refused(wire, "Controller.Commit", Operation=0, Spec=entry | {"kind": "pool"})


@pytest.mark.parametrize(
    ("who", "claimed", "recorded"),
    [
        (Caller("ann", "unix user", is_self=True), "bob", "bob"),
        (Caller("ann", "unix user"), "ann", "ann"),
        (Caller("ann", "unix user"), "bob", "bob (unix user ann)"),
        (Caller("ops-1", "certificate"), "", "certificate ops-1"),
        (Caller(), "bob", "bob (anonymous)"),
    ],
)
@in_virtual_time
async def test_history_names_the_authenticated_caller_not_only_the_claimed_one(
    who: Caller, claimed: str, recorded: str
) -> None:
    async with Stage() as stage:
        await stage.commit(cattle("workers", 2))
        wire = served(stage)

        async def scale() -> None:
            caller.enter(who)
            params = {"Group": "workers", "Size": 3, "Who": claimed, "Why": "more"}
            assert "error" not in await ask(wire, "Manager.Scale", params)

        await asyncio.create_task(scale())
        assert (await stage.operator.history())[0].who == recorded


@in_virtual_time
async def test_events_are_published_on_topics() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1), cattle("db", 1))
        await stage.converged()
        topics = JournalTopics(stage.journal)
        assert await topics.list(topic=".") == ["groups", "manager"]
        assert await topics.list(topic="groups") == ["db", "web"]
        assert "created" in await topics.list(topic="groups/web")
        assert await topics.list(topic="nope/x") == []
        received: dict[str, list[str]] = {
            "groups/web/created": [],
            "groups/web/": [],
            "groups/": [],
            "": [],
            "groups": [],
        }

        async def receive(topic: str) -> None:
            async for message in topics.subscribe(topic=topic):
                received[topic].append(message.topic)

        subscribers = [asyncio.create_task(receive(topic)) for topic in received]
        await asyncio.sleep(0.1)
        await stage.scale("web", 2)
        await stage.converged()
        for task in subscribers:
            task.cancel()
        await asyncio.wait(subscribers)
        assert received["groups/web/created"] == ["groups/web/created"]
        assert set(received["groups/web/"]) == {t for t in received["groups/"] if t.startswith("groups/web/")}
        assert "manager/committed" in received[""]
        assert "manager/committed" not in received["groups/"]
        assert received["groups"] == []  # an exact name, on which nothing is published
