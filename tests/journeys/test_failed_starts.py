"""Containers that a real Docker Engine cannot start: the operator reads the Engine's error, however quick a listing is.

The Engine lists a container before it starts it, and InfraKit removes one that could not be started.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.docker.engines import IMAGE, Engine, running
from tests.journeys.held import Held
from tests.journeys.operator import Operator, pets

ADDRESS = "10.77.0.11"
SUBNET = "10.77.0.0/24"
TAKEN = "Address already in use"
MISSING = "/no/such/program"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An Engine on which another container has the address of our pet."""
    with running() as engine:
        engine.build()
        engine.docker("network", "create", "--subnet", SUBNET, "nodes")
        engine.docker("run", "-d", "--network", "nodes", "--ip", ADDRESS, IMAGE)
        yield engine


def hold_starts(operator: Operator, server: Path) -> Held:
    """Between the daemon and the Engine: the request to start a container is held."""
    held = Held(operator.home / "starts", server, "/start HTTP")
    operator.environment["DOCKER_HOST"] = f"unix://{held.path}"
    return held


def pet(logical_id: str, **properties: Any) -> dict[str, Any]:
    instance = {"Image": IMAGE, "StopTimeout": 0, "Network": {"Name": "nodes"}, "Volumes": [{"Target": "/data"}]}
    return pets("db", logical_id, plugin="docker", instance=instance | properties, init="")


def events(operator: Operator, kind: str) -> list[str]:
    found = [json.loads(line) for line in operator("events", "--group", "db", "-o", "json").splitlines()]
    return [each["Message"] for each in found if each["Type"] == kind]


@pytest.mark.parametrize(
    ("group", "words"),
    [(pet(ADDRESS), TAKEN), (pet("10.77.0.12", Entrypoint=[MISSING]), MISSING)],
    ids=["address", "program"],
)
def test_the_error_of_a_start_explains_the_termination(
    operator: Operator, engine: Engine, group: dict[str, Any], words: str
) -> None:
    with hold_starts(operator, engine.socket) as starts:
        fail_after_listing(operator, starts, group)
        operator.until(lambda: events(operator, "terminated"), "the container is removed")
        assert words in events(operator, "create_failed")[0]
        assert words in events(operator, "terminated")[0]
        assert words in operator("why", f"db/{group['properties']['Allocation']['LogicalIDs'][0]}")


def test_the_error_of_a_start_is_reported_even_after_the_termination(operator: Operator, engine: Engine) -> None:
    removals = Held(operator.home / "removals", engine.socket, "DELETE /", responses=True)
    with removals, hold_starts(operator, removals.path) as starts:
        fail_after_listing(operator, starts, pet(ADDRESS))
        removals.wait()
        operator.until(
            lambda: events(operator, "terminated"), "the container is removed, and the creation has no error"
        )
        assert events(operator, "create_failed") == []
        removals.release()
        operator.until(lambda: events(operator, "create_failed"), "the creation returns its error")
        assert TAKEN in events(operator, "create_failed")[0]
        assert TAKEN in operator("why", f"db/{ADDRESS}")


def fail_after_listing(operator: Operator, starts: Held, group: dict[str, Any]) -> None:
    """Create an instance that is listed before its start fails, and with a halt that it is not created again."""
    operator.up(group)
    starts.wait()
    operator.until(lambda: events(operator, "created"), "the container is listed before it is started")
    assert events(operator, "create_failed") == []
    operator("halt", "-m", "one creation is enough")
    starts.release()
