"""Documents of earlier releases are read; those of a later release are refused completely, and never acted on."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.manager.api import roster
from infrakit.manager.declaration import record
from infrakit.manager.lead import ledger
from infrakit.metadata import vars  # noqa: A004 - the document's own name
from infrakit.spi import errors, formats
from infrakit.spi.event import Kind
from infrakit.spi.group import Updating
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time

CAPTURED = Path(__file__).parent / "format1"
DOCUMENTS: dict[str, type[Any]] = {
    record.NAME: record.DeclarationRecord,
    ledger.NAME: ledger.LedgerDocument,
    roster.NAME: roster.RosterDocument,
    vars.NAME: vars.VarsDocument,
}

# Fields that an older release ignores and drops, which is harmless.
ADDED: dict[str, Any] = {
    "Resumed": "",
    "Incarnation": "",
    "Incarnations": {},
    "Proven": {},
    "Policies": [],
    "Adopted": [],
    "Accounts": {},
    "Identities": {},
    "Changing": {},
    "HasHeartbeat": False,
}
DROPPED = {"Sources"}  # fields that were written and never read: they may exist, and are no longer written


@pytest.mark.parametrize("name", DOCUMENTS)
def test_format_1_is_read_and_written_again_without_loss(name: str) -> None:
    """If this fails, the format has changed: raise `FORMAT`, and capture the new one beside this one."""
    body = (CAPTURED / f"{name}.json").read_bytes()
    read = formats.decode(body, DOCUMENTS[name], name)
    expected = {field: value for field, value in json.loads(body).items() if field not in DROPPED}
    assert json.loads(msgspec.json.encode(read), object_hook=_without_added) == expected


def _without_added(values: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in values.items() if field not in ADDED or value != ADDED[field]}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_newer_format_is_refused_with_a_remedy_even_if_its_structure_differs(name: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        formats.decode(
            b'{"Format": 2, "Epoch": {"now": "an object"}, "Groups": [], "Replicas": 7}', DOCUMENTS[name], name
        )
    assert "has format 2, this InfraKit reads up to 1; run a newer InfraKit" in str(refused.value)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"\xff", b'{"Format": "1"}', b'{"Epoch": "one", "Groups": 1, "Replicas": 1, "Tree": 1}']
)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_damage_is_distinguished_from_a_newer_format(name: str, body: bytes) -> None:
    with pytest.raises(errors.Refused, match="cannot be read"):
        formats.decode(body, DOCUMENTS[name], name)


@pytest.mark.parametrize("name", [record.NAME, ledger.NAME])
@in_virtual_time
async def test_a_replica_does_not_start_on_a_newer_format(name: str) -> None:
    store = MemoryStore()
    await store.replace(name=name, body=b'{"Format": 2}', expected=0)
    with pytest.raises(errors.Refused, match="run a newer InfraKit"):
        await Stage(store=store).replica.check_store()


@in_virtual_time
async def test_a_leader_that_cannot_read_the_newest_declaration_stops_acting() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        body = json.loads((await stage.store.read(name=record.NAME)).body) | {"Format": 2}
        await stage.store.replace(name=record.NAME, body=json.dumps(body).encode(), expected=1)
        await asyncio.sleep(5.0)
        assert not stage.replica.active.is_set()
        stage.simulator.kill(stage.simulator.live()[0].id)
        await asyncio.sleep(60.0)
        assert len(stage.simulator.live()) == 1
        assert any(e.type is Kind.STOPPED and "run a newer InfraKit" in e.message for e in stage.events)
        with pytest.raises(errors.Refused, match="run a newer InfraKit"):
            await stage.scale("web", 3)
        assert "run a newer InfraKit" in (await stage.operator.status()).note


@in_virtual_time
async def test_replicas_of_several_versions_share_one_store() -> None:
    """The roster shows which formats each replica reads; a clean stop removes the entry of its own process only."""
    store = MemoryStore()
    entry = roster.ReplicaEntry(address="/a", version="0.1.0", format=1, host="h", pid=1, started="s")
    old = roster.Roster(store, "a", entry)
    new = roster.Roster(store, "b", msgspec.structs.replace(entry, version="0.2.0", format=2))
    keep_tasks = [asyncio.get_running_loop().create_task(each.keep()) for each in (old, new)]
    await asyncio.sleep(1.0)
    assert {name: each.format for name, each in (await old.entries()).items()} == {"a": 1, "b": 2}
    keep_tasks[0].cancel()
    await asyncio.wait(keep_tasks[:1])
    assert set(await new.entries()) == {"b"}
    other_process = roster.Roster(store, "b", msgspec.structs.replace(entry, pid=2))  # another process of that name
    other_task = asyncio.get_running_loop().create_task(other_process.keep())
    await asyncio.sleep(1.0)
    keep_tasks[1].cancel()
    await asyncio.wait(keep_tasks[1:])
    assert (await new.entries())["b"].pid == 2
    other_task.cancel()
    await asyncio.wait({other_task})


def _entry(policies: tuple[str, ...]) -> roster.ReplicaEntry:
    return roster.ReplicaEntry(
        address="/run/b", version="0.0.9", format=1, policies=policies, host="b", pid=2, started="now"
    )


def test_a_policy_is_written_only_if_it_is_declared_so_that_an_older_replica_reads_the_declaration() -> None:
    written = json.loads(msgspec.json.encode(Updating()))
    assert not written.keys() & set(formats.POLICIES)
    declared = Updating(canary=1, bake_time="1m", progress_deadline="9m")
    assert json.loads(msgspec.json.encode(declared)).keys() - written.keys() == set(formats.POLICIES)


@in_virtual_time
async def test_a_new_policy_is_refused_while_the_roster_names_a_replica_that_cannot_read_it() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        new, old = _entry(formats.POLICIES), _entry(())
        for policy in ({"Canary": 1}, {"BakeTime": "1m"}, {"ProgressDeadline": "1h"}):
            document = roster.RosterDocument(replicas={"a": new, "b": old})
            head = await stage.store.read(name=roster.NAME)
            await stage.store.replace(name=roster.NAME, body=msgspec.json.encode(document), expected=head.revision)
            with pytest.raises(errors.Refused) as refused:
                await stage.commit(cattle("web", 2, updating=policy))
            assert f"the replica b runs InfraKit 0.0.9, which cannot read {next(iter(policy))}" in str(refused.value)
            await stage.commit(cattle("web", 3))
            document = roster.RosterDocument(replicas={"a": new, "b": new})
            head = await stage.store.read(name=roster.NAME)
            await stage.store.replace(name=roster.NAME, body=msgspec.json.encode(document), expected=head.revision)
            await stage.commit(cattle("web", 2, updating=policy))
            await stage.commit(cattle("web", 2))
