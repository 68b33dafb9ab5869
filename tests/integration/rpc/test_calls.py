"""Our client and our server over a real socket, and our client against servers that fail it."""

import asyncio
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from infrakit.rpc import call
from infrakit.rpc.server import BODY_BYTES_MAX, Server
from infrakit.spi import errors
from infrakit.spi.instance import DestroyContext, Instance, Reason
from infrakit.spi.manager import Manager
from infrakit.spi.values import Description, InstanceID, InstanceSpec, LogicalID
from tests.integration.rpc.daemons import DEADLINE_S, Answer, Connection, answers, ask, misbehaving, post, rpc
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.plugins import Provider
from tests.unit.rpc.test_errors import one_of_each


@pytest.mark.usefixtures("server")
async def test_values_arrive_as_they_were_sent(path: Path, provider: Provider) -> None:
    provider.descriptions = (Description(id=InstanceID("i-1"), logical_id=LogicalID("10.0.0.1"), tags={"a": "ä\n"}),)
    spec = InstanceSpec(init="#!/bin/sh\necho '<hi> & bye'", tags={"role": "x"}, logical_id=LogicalID("10.0.0.1"))
    assert await ask(path, Instance.provision, spec=spec) == "i-1"
    assert await ask(path, Instance.describe_instances, tags={"role": "x"}, properties=True) == [
        provider.descriptions[0]
    ]
    context = DestroyContext(reason=Reason.ROLLING_UPDATE)
    assert await ask(path, Instance.destroy, instance=InstanceID("i-1"), context=context) is None
    (_, made), listed, destroyed = provider.asked
    assert (made["spec"].init, made["spec"].logical_id) == (spec.init, spec.logical_id)
    assert listed == ("describe_instances", {"tags": {"role": "x"}, "properties": True})
    assert destroyed == ("destroy", {"instance": "i-1", "context": context})


async def test_every_answer_of_the_manager_arrives_whole(path: Path) -> None:
    canned = CannedManager()
    async with Server(path, {".": canned}):
        assert await ask(path, Manager.status) == await canned.status()
        assert await ask(path, Manager.members) == await canned.members()
        assert await ask(path, Manager.logs, instance=InstanceID("web-1")) == "one\ntwo\n"
        order = {"group": "web", "size": 5, "who": "ann", "why": "", "expected": None}
        assert await ask(path, Manager.scale, **order) == canned.committed
    assert canned.orders[-1] == ("scale", order)


@pytest.mark.parametrize("error", one_of_each(), ids=lambda error: type(error).__name__)
@pytest.mark.usefixtures("server")
async def test_every_error_arrives_as_what_it_was(path: Path, provider: Provider, error: errors.InfraKitError) -> None:
    provider.failure = error
    with pytest.raises(type(error)) as raised:
        await ask(path, Instance.label, instance="i-1", labels={})
    assert type(raised.value) is type(error)
    assert vars(raised.value) == vars(error)


@pytest.mark.usefixtures("server")
async def test_a_service_that_is_not_there_is_said(path: Path) -> None:
    with pytest.raises(errors.PluginError, match=r'rpc: can\'t find service "Manager\.Status"'):
        await ask(path, Manager.status)


@pytest.mark.usefixtures("server")
async def test_wrong_parameters_are_said(path: Path) -> None:
    with pytest.raises(errors.PluginError, match=r"Expected `str`, got `int` - at `\$\.Instance`"):
        await ask(path, Instance.label, instance=5, labels={})


async def test_two_hundred_at_once(path: Path) -> None:
    """All connect while the loop stands still, and none is answered before all have asked."""
    crowd = 200
    async with Server(path, {".": Gathering(crowd)}):
        clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(crowd)]
        for client in clients:
            client.setblocking(False)
            client.connect(str(path))
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(asked_over(client)) for client in clients]
    assert [answer.result().json["result"] for answer in answers] == [{"Type": "", "OK": True}] * crowd


class Gathering(Provider):
    """Answers when all are there."""

    def __init__(self, crowd: int) -> None:
        super().__init__()
        self._all = asyncio.Barrier(crowd)

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        await self._all.wait()


async def asked_over(client: socket.socket) -> Answer:
    reader, writer = await asyncio.open_unix_connection(sock=client)
    answer = await Connection(reader, writer).exchange(post(rpc("Instance.Label", {"Instance": "i"})))
    writer.close()
    await writer.wait_closed()
    return answer


async def test_calls_of_many_clients_do_not_mix(path: Path) -> None:
    crowd = 20
    async with Server(path, {".": CannedManager()}), asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(ask(path, Manager.why, group=f"g{n}", subject="s")) for n in range(crowd)]
    assert [each.result().subject for each in asked] == [f"g{n}/s" for n in range(crowd)]


def call_label(path: Path) -> object:
    return call.call(path, Instance.label, instance=InstanceID("i"), labels={}, timeout_s=DEADLINE_S)


# -- nobody, or somebody who fails us ------------------------------------------------------------------------------


def test_nobody_there_is_unreachable(path: Path) -> None:
    with pytest.raises(errors.Unreachable, match=r"no daemon answers at .* \(No such file or directory\); start it"):
        call_label(path)


def test_a_dead_process_is_unreachable(path: Path) -> None:
    """Nothing was done, surely: a creation may be asked for elsewhere."""
    path.parent.mkdir()
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    with pytest.raises(errors.Unreachable, match="Connection refused"):
        call_label(path)


def test_a_path_too_long_is_refused(path: Path) -> None:
    with pytest.raises(errors.Refused, match="too long for a unix socket"):
        call_label(path.with_name("p" * 100))


def test_no_answer_within_the_deadline_leaves_the_outcome_unknown(path: Path) -> None:
    path.parent.mkdir()
    leave = threading.Event()
    with misbehaving(path, lambda _: assert_(leave.wait(DEADLINE_S))):
        with pytest.raises(errors.OutcomeUnknown, match=r"no answer within 0 s") as raised:
            call.call(path, Instance.label, instance=InstanceID("i"), labels={}, timeout_s=0.01)
        leave.set()
    assert raised.value.where == str(path)


def assert_(value: object) -> None:
    assert value


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"", errors.OutcomeUnknown, "the connection broke: Remote end closed connection without response"),
        (b"\x00garbage\r\n\r\n", errors.OutcomeUnknown, "the connection broke"),
        (http(b'{"jsonrpc"')[:-5], errors.OutcomeUnknown, "the connection broke"),
        (http(b""), errors.PluginError, "invalid response"),
        (http(b"<html>"), errors.PluginError, "invalid response"),
        (http(b"[]"), errors.PluginError, "invalid response"),
        (http(b"{}"), errors.PluginError, "neither result nor error"),
        (http(b'{"jsonrpc":"2.0","result":null,"error":null,"id":1}'), errors.PluginError, "neither result nor error"),
        (http(b"oops", "500 Internal Server Error"), errors.PluginError, "invalid response"),
        (http(b"too long\n", "413 Payload Too Large"), errors.Refused, "too long"),
        (http(b'{"error":{"message":"boom","data":null}}'), errors.PluginError, "boom"),
        (http(b'{"error":{"message":"boom","data":{"Kind":"Elsewhere"}}}'), errors.PluginError, "boom"),
    ],
)
def test_what_a_failing_server_lets_us_conclude(
    path: Path, answer: bytes, error: type[errors.InfraKitError], words: str
) -> None:
    path.parent.mkdir()
    with misbehaving(path, answers(answer)), pytest.raises(errors.InfraKitError) as raised:
        call_label(path)
    assert type(raised.value) is error
    assert words in str(raised.value)


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error", "404 Not Found"])
def test_the_status_does_not_matter_if_the_body_is_good(path: Path, status: str) -> None:
    path.parent.mkdir()
    with misbehaving(path, answers(http(b'{"result":{"Type":"","OK":true}}', status))):
        assert call_label(path) is None


@pytest.mark.usefixtures("server")
async def test_what_is_too_large_is_refused_with_the_limit(path: Path, provider: Provider) -> None:
    with pytest.raises(errors.Refused, match=f"at most {BODY_BYTES_MAX} bytes"):
        await ask(path, Instance.label, instance="i-1", labels={"a": "x" * BODY_BYTES_MAX})
    assert provider.asked == []
    await ask(path, Instance.label, instance="i-1", labels={"a": "x" * (BODY_BYTES_MAX - 1000)})
    assert len(provider.asked) == 1
