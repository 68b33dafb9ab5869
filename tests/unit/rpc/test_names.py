"""Every method of every interface under its wire name, with the fields of its params and its result."""

import json
from typing import Any

import msgspec
import pytest

from infrakit.rpc import interfaces, wire
from infrakit.rpc.dispatch import Dispatcher
from infrakit.spi.flavor import Flavor
from infrakit.spi.group import Groups
from infrakit.spi.instance import Instance
from infrakit.spi.manager import Manager, Planned
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.asking import ask
from tests.unit.rpc.plugins import Controller, FlavorPlugin, Plugin, Provider

# Method -> fields of params, fields of the result.
ORIGINALS = {
    "Instance.Validate": ("Type Properties", "Type OK"),
    "Instance.Provision": ("Type Spec", "Type ID"),
    "Instance.Label": ("Type Instance Labels", "Type OK"),
    "Instance.Destroy": ("Type Instance Context", "Type OK"),
    "Instance.DescribeInstances": ("Type Tags Properties", "Type Descriptions"),
    "Flavor.Validate": ("Type Properties Allocation", "Type OK"),
    "Flavor.Prepare": ("Type Properties Spec Allocation Index", "Type Spec"),
    "Flavor.Healthy": ("Type Properties Instance", "Type Health Note"),
    "Flavor.Drain": ("Type Properties Instance", "Type OK"),
    "Group.CommitGroup": ("Name Spec Pretend", "Name ID Details"),
    "Group.FreeGroup": ("Name ID", "Name ID OK"),
    "Group.DescribeGroup": ("Name ID", "Name ID Description"),
    "Group.DestroyGroup": ("Name ID", "Name ID OK"),
    "Group.InspectGroups": ("Name", "Name ID Groups"),
    "Group.DestroyInstances": ("Name ID Instances", "Name ID OK"),
    "Group.Size": ("Name ID", "Name ID Size"),
    "Group.SetSize": ("Name ID Size", "Name ID OK"),
    "Metadata.Keys": ("Name Path", "Name Nodes"),
    "Metadata.Get": ("Name Path", "Name Value"),
    "Updatable.Keys": ("Name Path", "Name Nodes"),
    "Updatable.Get": ("Name Path", "Name Value"),
    "Updatable.Changes": ("Name Changes", "Name Original Proposed Cas"),
    "Updatable.Commit": ("Name Proposed Cas", "Name OK"),
    "Event.List": ("Topic", "Nodes"),
    "Controller.Plan": ("Name Operation Spec", "Name Object Plan"),
    "Controller.Commit": ("Name Operation Spec", "Name Object Plan"),
    "Controller.Describe": ("Name Metadata", "Name Objects"),
    "Controller.Free": ("Name Metadata", "Name Objects"),
    "Manager.IsLeader": ("", "Leader"),
    "Manager.LeaderLocation": ("", "Location"),
    "Manager.Specs": ("", "Specs"),
    "Manager.Inspect": ("", "OK"),
    "Manager.Enforce": ("Specs", "OK"),
    "Manager.Terminate": ("Specs", "OK"),
}
CHANGED = "Version Unchanged Changes Notes"
OURS = {
    "Capable.Capabilities": ("Type", "Type ListingLagS Tokens"),
    "Inspects.Inspect": ("Type Instance", "Type Description"),
    "Logs.Logs": ("Type Instance Lines", "Type Text"),
    "Tails.Tail": ("Type Instance After Lines", "Type Text Position Ended"),
    "Volumes.DeleteAttachment": ("Type Attachment", "Type OK"),
    "Keeps.Existing": ("Type Attachments", "Type Attachments"),
    "Identified.Identity": ("Type", "Type Identity"),
    "JudgesMany.HealthyAll": ("Type Properties Instances", "Type Reports"),
    "Quorum.IsQuorum": ("Type Properties", "Type Quorum"),
    "Attaches.Attachments": ("Type Properties Allocation", "Type Attachments"),
    "Releases.Release": ("Type Properties Instance Allocation", "Type OK"),
    "Members.Membership": ("Type Properties Instances Allocation", "Type Changes"),
    "Members.ChangeMembership": ("Type Properties Change Instances Allocation", "Type OK"),
    "Voters.Voters": ("Type Properties Instances Allocation", "Type Voters"),
    "Hosts.Replicas": ("Type Properties Allocation", "Type Replicas"),
    "Versioned.Write": ("Name Changes Remove Who Why Expected", "Name Version"),
    "Versioned.History": ("Name Limit", "Name Revisions"),
    "Versioned.Show": ("Name Version", "Name Value"),
    "Versioned.Restore": ("Name Version Who Why Expected", "Name Version"),
    "Tree.Branches": ("Name", "Name Branches"),
    "Tree.Write": ("Name Changes Remove Who Why Expected", "Name Version"),
    "Tree.History": ("Name Plugin Limit", "Name Revisions"),
    "Tree.Show": ("Name Plugin Version", "Name Value"),
    "Tree.Restore": ("Name Plugin Version Who Why Expected", "Name Version"),
    "Manager.Status": ("", "Leader Replica Epoch Version Pid Started Now Halts Groups Leading Note Clusters"),
    "Manager.Commit": ("Text Source Who Why Expected Destroys Adopts", CHANGED),
    "Manager.Plan": ("Text Source", "BaseVersion Changes Groups Destroys Consent"),
    "Manager.Why": ("Group Subject", "Subject Summary Facts Doing Waiting Story NextLook"),
    "Manager.Members": ("Group", "Members"),
    "Manager.Tail": ("Instance After Lines", "Text Position Ended"),
    "Manager.Scale": ("Group Size Who Why Expected", CHANGED),
    "Manager.Halt": ("Group Who Why", CHANGED),
    "Manager.Unhalt": ("Group Who Why", CHANGED),
    "Manager.Pause": ("Group Who Why", CHANGED),
    "Manager.Resume": ("Group Who Why DespiteUnhealthy", CHANGED),
    "Manager.Abort": ("Group Who Why", CHANGED),
    "Manager.Rollback": ("Group Who Why", CHANGED),
    "Manager.Adopt": ("Cluster Who Why", CHANGED),
    "Manager.AdoptAccount": ("Plugin Identity Who Why", CHANGED),
    "Manager.Forget": ("Replica Who Why", "OK"),
    "Manager.Free": ("Group Who Why", CHANGED),
    "Manager.Destroy": ("Group Who Why Volumes", CHANGED),
    "Manager.DestroyInstance": ("Instance Who Why Replace", CHANGED),
    "Manager.Logs": ("Instance Lines", "Text"),
    "Manager.History": ("Limit", "Versions"),
    "Manager.Show": ("Version", "Text"),
    "Manager.Restore": ("Version Who Why Expected Destroys", CHANGED),
    "Manager.Leader": ("", "Leader Epoch Since Replica Observed ObservedAgeS Replicas Note"),
    "Manager.Resign": ("Who Why", "OK"),
    "Manager.Shutdown": ("Who Why", "OK"),
}
NAMES = ORIGINALS | OURS
METHODS = {method.wire: method for interface in interfaces.INTERFACES for method in wire.methods(interface)}
PLUGINS: dict[type, type[Plugin] | type[CannedManager]] = {
    Instance: Provider,
    Flavor: FlavorPlugin,
    Groups: Controller,
    Manager: CannedManager,
}


def plugin_for(interface: interfaces.Interface) -> object:
    """A plugin that implements every method of an interface, and of the interface that it extends."""
    made = PLUGINS.get(interface.protocol)
    if made is not None:
        return made()
    needed = [interface] if interface.extends is None else [interface, interfaces.of(interface.extends)]
    answers = {method.name: method_answering(method) for each in needed for method in wire.methods(each)}
    answers["subscribe"] = method_answering(
        wire.methods(interface)[0]
    )  # of `Topics`: a stream, which is never called here
    return type("Answering", (), answers)()


def method_answering(method: wire.Method) -> Any:
    async def answer(_self: object, **_parameters: Any) -> Any:
        if method.returns is type(None):
            return None
        return msgspec.json.decode(msgspec.json.encode(smallest(method.returns)), type=method.returns)

    return answer


def test_every_method_is_listed() -> None:
    assert set(METHODS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_params_have_their_wire_names(name: str) -> None:
    fields = msgspec.structs.fields(METHODS[name].params)
    assert {field.encode_name for field in fields} == set(NAMES[name][0].split())


@pytest.mark.parametrize("name", NAMES)
async def test_results_have_their_wire_names(name: str) -> None:
    plugin = plugin_for(METHODS[name].interface)
    reply = await ask(Dispatcher({".": plugin}), name, smallest(METHODS[name].params))
    assert list(reply["result"]) == NAMES[name][1].split()


@pytest.mark.parametrize("name", ["Instance.Provision", "Flavor.Healthy", "Group.Size"])
async def test_the_result_contains_the_address(name: str) -> None:
    address = NAMES[name][0].split()[0]
    plugin = plugin_for(METHODS[name].interface)
    params = smallest(METHODS[name].params) | {address: "a"}
    reply = await ask(Dispatcher({"a": plugin}), name, params)
    assert reply["result"][address] == "a"


async def test_a_result_without_fields_contains_the_address() -> None:
    method = wire.Method(interface=interfaces.INTERFACES[0], name="provision", params=Empty, returns=Empty)
    assert json.loads(bytes(method.result(Empty(), "a", {}))) == {"Type": "a", "ID": {}}
    unnamed = wire.Method(interface=interfaces.INTERFACES[0], name="other", params=Empty, returns=Empty)
    assert json.loads(bytes(unnamed.result(Empty(), "a", {}))) == {"Type": "a"}
    assert unnamed.value(unnamed.result(Empty(), "a", {})) == Empty()


def test_a_result_is_decoded_as_it_was_encoded() -> None:
    described = wire.method(Manager.plan)
    planned = Planned(base_version=7)
    assert described.value(described.result(planned, "", {})) == planned
    listing = wire.method(Instance.describe_instances)
    assert listing.value(listing.result((), "", {})) == []
    assert wire.method(Instance.destroy).value(msgspec.Raw(b"{}")) is None


@pytest.mark.parametrize("result", ['{"Type":"","Descriptions":null}', '{"descriptions":[]}'])
def test_null_is_an_empty_listing(result: str) -> None:
    assert wire.method(Instance.describe_instances).value(msgspec.Raw(result.encode())) == []


def test_a_listing_with_names_in_another_case_is_decoded() -> None:
    result = msgspec.Raw(b'{"descriptions":[{"id":"i-1","tags":{"a":"b"}}]}')
    (found,) = wire.method(Instance.describe_instances).value(result)
    assert (found.id, found.tags) == ("i-1", {"a": "b"})


@pytest.mark.parametrize("result", ["{}", '{"Type":""}', '{"Instances":[]}'])
def test_a_result_without_descriptions_is_not_an_empty_listing(result: str) -> None:
    """Law 4: an empty listing would mean that all instances have terminated."""
    with pytest.raises(msgspec.ValidationError, match="the result has no Descriptions"):
        wire.method(Instance.describe_instances).value(msgspec.Raw(result.encode()))


@pytest.mark.parametrize("result", ['{"Type":"","ID":null}', '{"Type":""}'])
def test_null_is_not_an_id(result: str) -> None:
    """Law 3: a creation without an ID has not been acknowledged."""
    with pytest.raises(msgspec.ValidationError):
        wire.method(Instance.provision).value(msgspec.Raw(result.encode()))


class Empty(msgspec.Struct):
    """A struct without fields."""


def smallest(type_: Any) -> Any:
    """The smallest JSON that satisfies a type."""
    schema = msgspec.json.schema(type_)
    return _smallest(schema, schema.get("$defs", {}))


def _smallest(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _smallest(schema["properties"][name], known) for name in schema.get("required", ())}
    return {"string": "x", "integer": 1, "boolean": True, "array": [], None: None}[schema.get("type")]
