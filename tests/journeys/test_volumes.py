"""The deletion of a group's volumes is stopped by a halt and by a new declaration, also between two volumes."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.held import Held
from tests.journeys.operator import Operator, pets

INIT = 'echo here >>"$INFRAKIT_VOLUME/data"; exec sleep 1000'
DB = pets("db", "a b c", init=INIT, plugin="slow")


@pytest.fixture
def slow(operator: Operator) -> Iterator[Held]:
    """The provider `local` in its own process, whose deletions of volumes are held."""
    operator.run_in_background("plugin", "start", "local", "--name", "disks")
    operator.until(lambda: operator.plugins().get("disks") == "running", "the plugin answers")
    plugins = operator.home / "home" / "plugins"
    with Held(plugins / "slow", plugins / "disks", "DeleteAttachment") as held:
        yield held


def destroy_until_first_volume(operator: Operator, slow: Held) -> dict[str, Path]:
    """Destroy the group with its volumes, and return its volumes when the deletion of the first has begun."""
    operator.up(DB)
    operator.converged()
    volumes = {name: next((operator.home / "home").glob(f"**/db-{name}")) for name in "abc"}
    operator("group", "destroy", "db", "--yes", "--volumes", "-m", "retired")
    slow.wait()
    assert not operator.processes()
    assert all(each.exists() for each in volumes.values())
    return volumes


def are_observed_since(operator: Operator, at: float) -> bool:
    return all(each["ObservedAgeS"] < time.monotonic() - at for each in operator.ask_status()["Groups"])


def test_a_halt_between_two_volumes_stops_the_deletion_of_the_rest(operator: Operator, slow: Held) -> None:
    volumes = destroy_until_first_volume(operator, slow)
    operator("halt", "-m", "the wrong group")
    slow.release()
    operator.until(lambda: not volumes["a"].exists(), "the deletion that had begun has completed")
    halted_at = time.monotonic()
    operator.until(lambda: are_observed_since(operator, halted_at), "it is observed again")
    assert volumes["b"].exists()
    assert volumes["c"].exists()
    assert slow.requests == 1
    operator("unhalt")
    operator.until(lambda: "db" not in operator("group", "ls"), "the group is destroyed")
    assert not any(each.exists() for each in volumes.values())


def test_committing_the_group_again_stops_the_deletion_of_its_volumes(operator: Operator, slow: Held) -> None:
    volumes = destroy_until_first_volume(operator, slow)
    operator.commit(DB, wait=False)
    slow.release()
    operator.converged()
    assert slow.requests == 1
    written = {name: len((each / "data").read_text().splitlines()) for name, each in volumes.items()}
    assert written == {"a": 1, "b": 2, "c": 2}  # the first was deleted, and is new
