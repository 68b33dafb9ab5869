"""A later command that lifts the destruction of a group says so, in its reply and in the journal."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infrakit.instances.simulator import Faults, Spread
from infrakit.manager.compat.group import GroupPlugin
from infrakit.rpc.dispatch import Dispatcher
from infrakit.spi.event import Kind
from infrakit.spi.manager import Committed
from infrakit.spi.values import GroupID
from tests.stage import Stage, cattle, in_virtual_time
from tests.unit.rpc.asking import ask

WEB = GroupID("web")
SLOW = Faults(destroy=Spread(low=10.0))

Command = Callable[[Stage], Awaitable[Committed]]
COMMANDS: dict[str, Command] = {
    "commit": lambda on: on.commit(cattle("web", 2, version=1)),
    "scale": lambda on: on.scale("web", 3),
    "scale to its size": lambda on: on.scale("web", 2),
    "rollback": lambda on: on.operator.rollback(group=WEB, who="bob", why="a test"),
    "restore": lambda on: on.operator.restore(version=1, who="bob", why="a test"),
    "free": lambda on: on.operator.free(group=WEB, who="bob", why="a test"),
}
REQUESTS: dict[str, dict[str, Any]] = {
    "CommitGroup": {"Spec": {"ID": "web", "Properties": cattle("web", 2, version=1)["properties"]}},
    "SetSize": {"Size": 3},
    "FreeGroup": {},
}


async def _under_destruction(on: Stage) -> None:
    await on.commit(cattle("web", 2))
    await on.commit(cattle("web", 2, version=1))
    await on.converged()
    destroyed = await on.operator.destroy(group=WEB, who="ann", why="down")
    assert destroyed.notes == ()
    await on.until(lambda: on.messages(Kind.DESTROYING))


def _is_note(text: str) -> bool:
    return "the destruction of web, requested by ann at 2" in text and text.endswith("(down), is revoked")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@in_virtual_time
async def test_a_command_that_revokes_a_destruction_reports_it(command: Command) -> None:
    async with Stage(faults=SLOW) as on:
        await _under_destruction(on)
        committed = await command(on)
        (note,) = committed.notes
        assert _is_note(note)
        assert _is_note(on.messages(Kind.COMMITTED)[-1])


@pytest.mark.parametrize("request_", REQUESTS)
@in_virtual_time
async def test_a_request_on_the_wire_that_revokes_a_destruction_reports_it(request_: str) -> None:
    async with Stage(faults=SLOW) as on:
        await _under_destruction(on)
        wire = Dispatcher({"groups": (GroupPlugin(on.replica, on.operator),)})
        reply = await ask(wire, f"Group.{request_}", {"Name": "groups", "ID": "web"} | REQUESTS[request_])
        assert "error" not in reply, reply
        assert _is_note(on.messages(Kind.COMMITTED)[-1])
        if request_ == "CommitGroup":  # the only one whose reply has a text
            assert _is_note(reply["result"]["Details"])


@in_virtual_time
async def test_a_group_whose_destruction_was_revoked_is_whole_again() -> None:
    async with Stage(faults=SLOW) as on:
        await _under_destruction(on)
        await on.scale("web", 3)
        await on.converged()
        assert sorted(on.alive("web")) == ["1", "2", "3"]


@in_virtual_time
async def test_what_infrakit_changes_revokes_no_destruction() -> None:
    async with Stage(faults=SLOW) as on:
        await _under_destruction(on)
        group = on.controller("web").want.group
        await on.replica.stop_rollout(WEB, hash=group.hash, rollback=True, why="it fails")
        await on.replica.proven(WEB, hash=group.hash)
        await asyncio.sleep(600)
        assert on.alive("web") == {}
        assert WEB not in on.replica.declaration.record.groups
        assert not any("is revoked" in each for each in on.messages(Kind.COMMITTED))
