"""The plugin `manager`: the state that operators see, without potential secrets."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from infrakit.metadata.manager import ManagerFacts
from infrakit.spi import errors
from infrakit.spi.manager import LeaderStatus, MemberStatus, Status, Verdict
from infrakit.spi.metadata import Metadata
from infrakit.spi.values import Attachment, GroupID, InstanceID, LogicalID, Slot
from tests.unit.cli.canned import CannedManager

SECRET = "SWMTKN-1-of-the-cluster"


class CountingManager(CannedManager):
    """Counts its queries, and contains secrets that must not be published."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses = 0
        self.more: tuple[MemberStatus, ...] = ()

    async def status(self) -> Status:
        self.statuses += 1
        return await super().status()

    async def members(self, *, group: GroupID | None = None) -> tuple[MemberStatus, ...]:
        found = self.more or await super().members(group=group)
        return tuple(
            msgspec.structs.replace(m, note=f"said {SECRET}", tags={"token": SECRET, "infrakit.token": SECRET})
            for m in found
        )

    async def leader(self) -> LeaderStatus:
        if "leader" in self.failures:
            raise self.failures["leader"]
        return msgspec.structs.replace(await super().leader(), observed=f"by {SECRET}")


async def read(facts: ManagerFacts, path: str = "") -> Any:
    return json.loads(bytes(await facts.get(path=path)))


async def test_it_publishes_the_leader_and_the_groups() -> None:
    facts = ManagerFacts(CountingManager())
    assert isinstance(facts, Metadata)
    assert await read(facts, "leader/name") == "box"
    assert await read(facts, "leader/address") == "https://box:24864/"
    assert await facts.keys(path="replicas") == ["box", "cox", "dox"]
    assert await read(facts, "replicas/dox/role") == "away"
    assert await facts.keys(path="groups") == ["store", "web"]
    assert await read(facts, "groups/web/healthy") == 3
    assert await facts.keys(path="groups/web/members") == ["1", "2"]
    assert await read(facts, "groups/web/members/2") == {
        "state": "creating", "health": "unknown", "current": False, "attachments": [],
    }  # fmt: skip
    assert await read(facts, "groups/store/members/127.0.0.12") == {
        "id": "store-1", "logical_id": "127.0.0.12", "address": "127.0.0.12", "state": "running",
        "health": "unhealthy", "current": False, "attachments": ["vol-12"],
    }  # fmt: skip
    assert await facts.keys(path="groups/nope") is None


async def test_no_token_no_tag_and_no_note_of_a_plugin_is_published() -> None:
    """Published fields are listed by name, so a new field of the manager is not published by default."""
    published = json.dumps(await read(ManagerFacts(CountingManager())))
    assert "store-1" in published
    assert SECRET not in published
    assert "token" not in published


async def test_two_members_of_a_slot_are_both_published() -> None:
    manager = CountingManager()

    def member_status(name: str, state: str) -> MemberStatus:
        return MemberStatus(
            group=GroupID("store"),
            id=InstanceID(name),
            slot=Slot("a"),
            logical_id=LogicalID("a"),
            state=state,
            health=Verdict.HEALTHY,
            attachments=(Attachment(id="v", type="volume"),),
        )

    manager.more = (member_status("i-1", "destroying"), member_status("i-2", "running"))
    members = await read(ManagerFacts(manager), "groups/store/members")
    assert {name: m["state"] for name, m in members.items()} == {"a": "destroying", "i-2": "running"}
    assert "address" not in members["a"]  # a name is not an address


async def test_unknown_facts_are_omitted() -> None:
    manager = CountingManager()
    manager.leads, manager.note, manager.groups = False, "another node leads", []
    manager.failures["leader"] = errors.Unreachable("the store does not answer")
    tree = await read(ManagerFacts(manager))
    assert tree == {"replica": "box", "leader": {}}
    manager.failures["status"] = errors.Unreachable("the store does not answer")
    with pytest.raises(errors.Unreachable):
        await read(ManagerFacts(manager))


async def test_the_manager_is_queried_once_a_cycle() -> None:
    manager = CountingManager()
    facts = ManagerFacts(manager, max_age_s=3600.0)
    await asyncio.gather(*(facts.get(path="leader/name") for _ in range(50)))
    assert manager.statuses == 1
    hasty = ManagerFacts(manager, max_age_s=-1.0)
    await hasty.get(path="")
    await hasty.get(path="")
    assert manager.statuses == 3
