"""Only None, or a description of the instance itself, is an inspection that confirms a termination."""

import asyncio

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Simulator
from infrakit.rpc import wire
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.instance import Inspects
from infrakit.spi.values import Description, GroupID, InstanceID, State
from tests.stage import MinimalProvider, Stage, in_virtual_time, pets

ANSWERS = {
    "forbidden": errors.Refused("403 Forbidden: not authorised to perform DescribeInstances"),
    "not found": errors.NotFound("404 Not Found", where="proxy"),
    "unreachable": errors.Unreachable("connection refused"),
    "a bug": KeyError("State"),
    "another instance": Description(id=InstanceID("sim-9"), state=State.TERMINATED),
    "no description": {},
    "false": False,
}


class Answers(MinimalProvider):
    """A provider whose inspections all have one answer."""

    def __init__(self, simulator: Simulator, answer: object) -> None:
        super().__init__(simulator)
        self._answer = answer
        self.inspections = 0

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        self.inspections += 1
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer  # type: ignore[return-value]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@in_virtual_time
async def test_only_none_confirms_a_termination(answer: object) -> None:
    simulator = Simulator(Faults(exclusive=False, tokens=False))
    provider = Answers(simulator, answer)
    async with Stage(simulator=simulator, provider=lambda _simulator: provider) as stage:
        await stage.commit(pets("db", "a b"))
        await stage.converged()
        stage.fault(blind=True)
        await asyncio.sleep(60)
        assert provider.inspections > 10
        assert not stage.messages(Kind.TERMINATED)
        assert stage.simulator.calls["provision"] == 2
        assert not stage.messages(Kind.ERROR)
        stage.fault(blind=False)
        await stage.converged()


@in_virtual_time
async def test_an_operator_who_is_mistaken_does_not_outweigh_an_inspection() -> None:
    async with Stage(simulator=Simulator(Faults(exclusive=False, tokens=False))) as stage:
        stage.fault(blind=True)
        await stage.commit(pets("db", "a b"))
        await asyncio.sleep(120)
        assert any("terminate sim-1" in each.remedy for each in stage.controller("db").blocked)
        await stage.operator.resume(group=GroupID("db"), who="ann", why="the listing is empty")
        await asyncio.sleep(120)
        assert stage.simulator.calls["provision"] == 2
        stage.fault(blind=False)
        await stage.converged()


@pytest.mark.parametrize("result", [b"{}", b'{"Type": ""}', b'{"OK": true}', b'{"Description": false}', b"[]"])
def test_a_reply_of_a_remote_plugin_without_a_description_is_no_answer(result: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.method(Inspects.inspect).read(b'{"jsonrpc": "2.0", "id": 1, "result": ' + result + b"}")


def test_an_error_of_a_remote_plugin_is_no_answer() -> None:
    body = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "forbidden"}}'
    assert wire.method(Inspects.inspect).read(body).error is not None
    assert wire.method(Inspects.inspect).read(b'{"jsonrpc": "2.0", "id": 1, "result": null}').error is not None
