"""The plugin `swarm`: the state that managers report, without potential secrets; empty without a Swarm."""

from pathlib import Path
from typing import Any

import pytest

from infrakit.clients.swarm_values import Info, Manager, Node
from infrakit.metadata.swarm import SwarmFacts, tree
from infrakit.spi import errors
from infrakit.spi.metadata import Metadata

SECRET = "SWMTKN-1-of-the-swarm"
INFO = Info(
    node_id="n1",
    state="active",
    control=True,
    error="",
    addr="",
    managers=(),
    cluster_id="c1",
    nodes=3,
    manager_count=2,
)


def node(id_: str, **fields: Any) -> Node:
    plain: dict[str, Any] = {
        "version": 1,
        "role": "worker",
        "availability": "active",
        "labels": {"note": SECRET},
        "hostname": f"host-{id_}",
        "engine_labels": {"infrakit.group": "workers", "note": SECRET},
        "engine_version": "20.10.24",
        "state": "ready",
        "message": SECRET,
        "addr": "10.0.0.9",
        "manager": None,
        "created": "",
        "updated": "",
    }
    return Node(id=id_, **(plain | fields))


def test_it_publishes_the_leader_the_managers_and_the_nodes() -> None:
    leader = Manager(addr="10.0.0.1:2377", leader=True, reachability="reachable")
    silent = Manager(addr="10.0.0.2:2377", leader=False, reachability="unreachable")
    nodes = [
        node("n1", role="manager", manager=leader),
        node("n2", role="manager", manager=silent, state="down"),
        node("n3"),
    ]
    published = tree(INFO, nodes, 4)
    assert published["id"] == "c1"
    assert published["self"] == "n1"
    assert published["leader"] == {"id": "n1", "address": "10.0.0.1:2377"}
    assert published["managers"] == ["10.0.0.1:2377", "10.0.0.2:2377"]
    assert published["counts"] == {
        "nodes": 3, "ready": 2, "managers": 2, "reachable": 1, "workers": 1, "services": 4,
    }  # fmt: skip
    assert published["nodes"]["n2"] == {
        "name": "host-n2", "role": "manager", "state": "down", "availability": "active", "address": "10.0.0.2",
        "engine": "20.10.24", "group": "workers", "leads": False, "reachability": "unreachable",
    }  # fmt: skip
    assert SECRET not in str(published)


async def test_without_an_engine_the_tree_is_empty(tmp_path: Path) -> None:
    facts = SwarmFacts(socket=tmp_path / "sock")
    assert isinstance(facts, Metadata)
    assert await facts.keys(path="") == []
    assert bytes(await facts.get(path="nodes")) == b"null"


async def test_an_engine_that_does_not_answer_is_not_an_empty_swarm(tmp_path: Path) -> None:
    (tmp_path / "sock").touch()
    facts = SwarmFacts(socket=tmp_path / "sock")
    with pytest.raises(errors.Unreachable):
        await facts.keys(path="")
    await facts.close()
