"""What the flavor vanilla adds to an instance before its provider creates it."""

from typing import Any

import msgspec
import pytest

from infrakit.flavors.vanilla import Vanilla
from infrakit.spi import flavor
from infrakit.spi.values import Allocation, Attachment, GroupID, Index, InstanceSpec, LogicalID

SIZE_3 = Allocation(size=3)
PETS = Allocation(logical_ids=(LogicalID("10.0.0.1"), LogicalID("10.0.0.2")))


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


async def prepare(properties: Any, spec: InstanceSpec, *, allocation: Allocation = SIZE_3) -> InstanceSpec:
    index = Index(group=GroupID("g"), sequence=3)
    return await Vanilla().prepare(properties=raw(properties), spec=spec, allocation=allocation, index=index)


def test_satisfies_every_protocol_of_a_flavor() -> None:
    vanilla: object = Vanilla()
    assert isinstance(vanilla, flavor.Flavor)
    assert isinstance(vanilla, flavor.JudgesMany)
    assert isinstance(vanilla, flavor.Quorum)
    assert isinstance(vanilla, flavor.Attaches)


async def test_the_response_equals_the_captured_one_byte_for_byte() -> None:
    properties = {"Init": ["line1", "line2"], "Tags": {"t": "1"}, "Attachments": [{"ID": "vol-9", "Type": "ebs"}]}
    sent = b'{"Properties":{"x":[1,2]},"Tags":{"infrakit.group":"g"},"Init":"","LogicalID":null,"Attachments":null}'
    prepared = await prepare(properties, msgspec.json.decode(sent, type=InstanceSpec))
    assert msgspec.json.encode(prepared) == (
        b'{"Properties":{"x":[1,2]},"Tags":{"infrakit.group":"g","t":"1"},"Init":"line1\\nline2",'
        b'"LogicalID":null,"Attachments":[{"ID":"vol-9","Type":"ebs"}]}'
    )


@pytest.mark.parametrize("properties", [None, {}])
async def test_without_properties_nothing_changes(properties: Any) -> None:
    spec = InstanceSpec(tags={"a": "b"}, init="boot")
    assert await prepare(properties, spec) == spec


async def test_boot_lines_are_appended_to_existing_ones() -> None:
    prepared = await prepare({"Init": "#!/bin/sh\necho hi"}, InstanceSpec(init="first"))
    assert prepared.init == "first\n#!/bin/sh\necho hi"


async def test_declared_tags_override_those_of_the_group_but_never_reserved_ones() -> None:
    tags = {"infrakit.group": "g", "tier": "old"}
    prepared = await prepare({"Tags": {"infrakit.group": "stolen", "tier": "web"}}, InstanceSpec(tags=tags))
    assert prepared.tags == {"infrakit.group": "g", "tier": "web"}


async def test_a_pet_receives_its_own_properties() -> None:
    properties = {
        "Init": ["all"],
        "Tags": {"who": "all"},
        "ByLogicalID": {"10.0.0.2": {"Init": ["two"], "Tags": {"who": "two"}}},
        "Attachments": {"10.0.0.2": [{"ID": "vol-2", "Type": "volume"}]},
    }
    one = await prepare(properties, InstanceSpec(logical_id=LogicalID("10.0.0.1")), allocation=PETS)
    two = await prepare(properties, InstanceSpec(logical_id=LogicalID("10.0.0.2")), allocation=PETS)
    assert (one.init, one.tags, one.attachments) == ("all", {"who": "all"}, None)
    assert (two.init, two.tags) == ("all\ntwo", {"who": "two"})
    assert two.attachments == (Attachment(id="vol-2", type="volume"),)


async def test_attachments_are_appended_to_existing_ones() -> None:
    existing = Attachment(id="a", type="volume")
    spec = InstanceSpec(attachments=(existing,))
    prepared = await prepare({"Attachments": [{"ID": "b", "Type": "volume"}]}, spec)
    assert prepared.attachments == (existing, Attachment(id="b", type="volume"))


async def test_a_port_is_stored_as_a_tag() -> None:
    prepared = await prepare({"Port": {"Base": 8100}}, InstanceSpec())
    assert prepared.tags == {"infrakit.port": "8103"}


async def test_attachments_are_returned_by_logical_id() -> None:
    properties = raw({"Attachments": {"10.0.0.1": [{"ID": "v", "Type": "volume"}]}})
    found = await Vanilla().attachments(properties=properties, allocation=PETS)
    assert found == {"10.0.0.1": (Attachment(id="v", type="volume"),), "10.0.0.2": ()}


@pytest.mark.parametrize(("properties", "expected"), [({}, False), ({"Quorum": True}, True), (None, False)])
async def test_a_quorum_is_declared(properties: Any, expected: bool) -> None:
    assert await Vanilla().is_quorum(properties=raw(properties)) is expected
