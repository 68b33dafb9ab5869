"""What flavors report that a member is made from: no policies, and nothing of other pets."""

import json
from typing import Any

import msgspec
import pytest

from infrakit.flavors.etcd import EtcdFlavor
from infrakit.flavors.swarm import SwarmManager, SwarmWorker
from infrakit.flavors.vanilla import Vanilla
from infrakit.group.versions import MemberVersions, member_versions
from infrakit.spi.flavor import MadeFrom
from infrakit.spi.group import DeclaredAllocation, FlavorRef, Group, GroupProperties, InstanceRef
from infrakit.spi.values import GroupID, LogicalID

A, B = LogicalID("10.0.0.1"), LogicalID("10.0.0.2")
FLAVORS: dict[str, type[Any]] = {
    "vanilla": Vanilla,
    "etcd": EtcdFlavor,
    "swarm/manager": SwarmManager,
    "swarm/worker": SwarmWorker,
}
VOLUME = [{"ID": "v", "Type": "volume"}]


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def versions(name: str, properties: object, instance: object = None) -> MemberVersions:
    flavor = FLAVORS[name]()
    assert isinstance(flavor, MadeFrom)
    declared = GroupProperties(
        allocation=DeclaredAllocation(logical_ids=(A, B)),
        instance=InstanceRef(plugin="simulator", properties=raw(instance)),
        flavor=FlavorRef(plugin=name, properties=raw(properties)),
    )
    return member_versions(Group(name=GroupID("g"), properties=declared, hash="h"), flavor)


def changed(name: str, before: object, after: object) -> str:
    """Which of the pets A and B are made from something else after a change."""
    one, other = versions(name, before), versions(name, after)
    assert one.common
    assert other.common
    return "".join(letter for letter, each in (("A", A), ("B", B)) if one.of(each) != other.of(each))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("vanilla", {}, {"Health": {"TCP": {"Address": "x:1"}}}),
        ("vanilla", {"Health": {"Command": "x"}}, {"Health": {"Command": "x", "Timeout": "9s"}}),
        ("vanilla", {}, {"Drain": {"Command": "x"}}),
        ("vanilla", {}, {"Quorum": True}),
        ("vanilla", {"Init": "x"}, {"Init": "x", "Attachments": {"c": VOLUME}}),
        ("vanilla", {"Attachments": {A: [], "c": VOLUME}}, {}),
        ("vanilla", {}, {"ByLogicalID": {"c": {"Init": "x"}}}),
        ("vanilla", {"Init": "echo {{ logical_id }}"}, {"Init": "echo {{ logical_id }}", "Quorum": True}),
        ("vanilla", {"Init": "no template: spec"}, {"Init": "no template: spec", "Quorum": True}),
        ("etcd", {}, {"MaxLag": 5}),
        ("etcd", {}, {"Replica": "http://{LogicalID}:24864"}),
        ("swarm/manager", {}, {"RemoveAfter": "9s"}),
        ("swarm/manager", {}, {"Replica": "http://{LogicalID}:24864"}),
        ("swarm/worker", {}, {"RemoveAfter": "9s"}),
    ],
)
def test_policies_and_parts_of_others_change_no_member(name: str, before: object, after: object) -> None:
    assert changed(name, before, after) == ""


@pytest.mark.parametrize(
    ("name", "before", "after", "concerned"),
    [
        ("vanilla", {}, {"Init": "x"}, "AB"),
        ("vanilla", {}, {"Tags": {"x": "y"}}, "AB"),
        ("vanilla", {}, {"Attachments": VOLUME}, "AB"),
        ("vanilla", {}, {"Attachments": {A: VOLUME}}, "A"),
        ("vanilla", {"ByLogicalID": {B: {"Init": "x"}}}, {"ByLogicalID": {B: {"Init": "y"}}}, "B"),
        ("vanilla", {"ByLogicalID": {A: {"Init": "x"}}}, {"Attachments": {A: VOLUME}}, "A"),
        ("vanilla", {"Init": "{{ spec.Quorum }}"}, {"Init": "{{ spec.Quorum }}", "Quorum": True}, "AB"),
        ("vanilla", {"Init": "{{ SPEC.Quorum }}"}, {"Init": "{{ SPEC.Quorum }}", "Quorum": True}, "AB"),
        ("etcd", {}, {"ExtraArgs": ["--x"]}, "AB"),
        ("etcd", {}, {"Volume": "x-{LogicalID}"}, "AB"),
        ("etcd", {"Init": "{{ spec.MaxLag }}"}, {"Init": "{{ spec.MaxLag }}", "MaxLag": 5}, "AB"),
        ("swarm/manager", {}, {"Engine": ["dockerd", "-D"]}, "AB"),
        ("swarm/worker", {}, {"Advertise": "eth0"}, "AB"),
    ],
)
def test_what_a_member_is_made_from_changes_it(name: str, before: object, after: object, concerned: str) -> None:
    assert changed(name, before, after) == concerned


def test_the_instance_and_the_plugins_count() -> None:
    one = versions("vanilla", {})
    assert one.common != versions("vanilla", {}, {"x": 1}).common
    assert versions("vanilla", {}, {"x": 1}) == versions("vanilla", {}, {"x": 1.0})
    assert one.common != versions("etcd", {}).common


def test_properties_that_the_flavor_rejects_have_no_version() -> None:
    assert versions("vanilla", {"Inti": "x"}) == MemberVersions()
