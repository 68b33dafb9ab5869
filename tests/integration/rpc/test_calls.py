"""The client and the server over a real socket, and the client against servers that fail."""

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
from tests.integration.rpc.daemons import (
    DEADLINE_S,
    Connection,
    Response,
    answers,
    call_in_thread,
    misbehaving,
    post,
    rpc,
)
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.plugins import Provider
from tests.unit.rpc.test_errors import one_of_each


@pytest.mark.usefixtures("server")
async def test_values_arrive_as_they_were_sent(path: Path, provider: Provider) -> None:
    provider.descriptions = (Description(id=InstanceID("i-1"), logical_id=LogicalID("10.0.0.1"), tags={"a": "ä\n"}),)
    spec = InstanceSpec(init="#!/bin/sh\necho '<hi> & bye'", tags={"role": "x"}, logical_id=LogicalID("10.0.0.1"))
    assert await call_in_thread(path, Instance.provision, spec=spec) == "i-1"
    assert await call_in_thread(path, Instance.describe_instances, tags={"role": "x"}, properties=True) == [
        provider.descriptions[0]
    ]
    context = DestroyContext(reason=Reason.ROLLING_UPDATE)
    assert await call_in_thread(path, Instance.destroy, instance=InstanceID("i-1"), context=context) is None
    (_, provisioned), listed, destroyed = provider.asked
    assert (provisioned["spec"].init, provisioned["spec"].logical_id) == (spec.init, spec.logical_id)
    assert listed == ("describe_instances", {"tags": {"role": "x"}, "properties": True})
    assert destroyed == ("destroy", {"instance": "i-1", "context": context})


async def test_results_of_the_manager_arrive_unchanged(path: Path) -> None:
    canned = CannedManager()
    async with Server(path, {".": canned}):
        assert await call_in_thread(path, Manager.status) == await canned.status()
        assert await call_in_thread(path, Manager.members) == await canned.members()
        assert await call_in_thread(path, Manager.logs, instance=InstanceID("web-1")) == "one\ntwo\n"
        request = {"group": "web", "size": 5, "who": "ann", "why": "", "expected": None}
        assert await call_in_thread(path, Manager.scale, **request) == canned.committed
    assert canned.orders[-1] == ("scale", request)


@pytest.mark.parametrize("error", one_of_each(), ids=lambda error: type(error).__name__)
@pytest.mark.usefixtures("server")
async def test_every_error_keeps_its_type_and_fields(
    path: Path, provider: Provider, error: errors.InfraKitError
) -> None:
    provider.failure = error
    with pytest.raises(type(error)) as raised:
        await call_in_thread(path, Instance.label, instance="i-1", labels={})
    assert type(raised.value) is type(error)
    assert vars(raised.value) == vars(error)


@pytest.mark.usefixtures("server")
async def test_a_missing_service_is_reported(path: Path) -> None:
    with pytest.raises(errors.PluginError, match=r'rpc: can\'t find service "Manager\.Status"'):
        await call_in_thread(path, Manager.status)


@pytest.mark.usefixtures("server")
async def test_wrong_parameters_are_reported(path: Path) -> None:
    with pytest.raises(errors.PluginError, match=r"Expected `str`, got `int` - at `\$\.Instance`"):
        await call_in_thread(path, Instance.label, instance=5, labels={})


async def test_two_hundred_concurrent_connections(path: Path) -> None:
    """All connect while the event loop is blocked, and none gets a response before all requests have arrived."""
    count = 200
    async with Server(path, {".": RespondsWhenAllArrived(count)}):
        clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(count)]
        for client in clients:
            client.setblocking(False)
            client.connect(str(path))
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(label_over(client)) for client in clients]
    assert [answer.result().json["result"] for answer in answers] == [{"Type": "", "OK": True}] * count


class RespondsWhenAllArrived(Provider):
    """Responds when all requests have arrived."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._all = asyncio.Barrier(count)

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        await self._all.wait()


async def label_over(client: socket.socket) -> Response:
    reader, writer = await asyncio.open_unix_connection(sock=client)
    answer = await Connection(reader, writer).exchange(post(rpc("Instance.Label", {"Instance": "i"})))
    writer.close()
    await writer.wait_closed()
    return answer


async def test_responses_to_concurrent_clients_are_not_mixed_up(path: Path) -> None:
    count = 20
    async with Server(path, {".": CannedManager()}), asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(call_in_thread(path, Manager.why, group=f"g{n}", subject="s")) for n in range(count)]
    assert [each.result().subject for each in calls] == [f"g{n}/s" for n in range(count)]


def call_label(path: Path) -> object:
    return call.call(path, Instance.label, instance=InstanceID("i"), labels={}, timeout_s=DEADLINE_S)


# -- unreachable and failing servers -------------------------------------------------------------------------------


def test_a_missing_socket_is_unreachable(path: Path) -> None:
    with pytest.raises(errors.Unreachable, match=r"no daemon answers at .* \(No such file .*\); infrakit up starts"):
        call_label(path)


def test_the_socket_of_a_terminated_process_is_unreachable(path: Path) -> None:
    """Certainly nothing was done: a creation may be retried elsewhere."""
    path.parent.mkdir()
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(path))
    stale.close()
    with pytest.raises(errors.Unreachable, match="Connection refused"):
        call_label(path)


def test_a_path_too_long_is_refused(path: Path) -> None:
    with pytest.raises(errors.Refused, match="too long for a unix socket"):
        call_label(path.with_name("p" * 100))


def test_a_timeout_leaves_the_outcome_unknown(path: Path) -> None:
    path.parent.mkdir()
    finish = threading.Event()
    with misbehaving(path, lambda _: assert_(finish.wait(DEADLINE_S))):
        with pytest.raises(errors.OutcomeUnknown, match=r"no answer within 0 s") as raised:
            call.call(path, Instance.label, instance=InstanceID("i"), labels={}, timeout_s=0.01)
        finish.set()
    assert raised.value.where == str(path)


def assert_(value: object) -> None:
    assert value


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "error", "message"),
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
def test_the_error_for_each_failure_of_a_server(
    path: Path, answer: bytes, error: type[errors.InfraKitError], message: str
) -> None:
    path.parent.mkdir()
    with misbehaving(path, answers(answer)), pytest.raises(errors.InfraKitError) as raised:
        call_label(path)
    assert type(raised.value) is error
    assert message in str(raised.value)


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error", "404 Not Found"])
def test_the_http_status_is_ignored_if_the_body_is_valid(path: Path, status: str) -> None:
    path.parent.mkdir()
    with misbehaving(path, answers(http(b'{"result":{"Type":"","OK":true}}', status))):
        assert call_label(path) is None


@pytest.mark.usefixtures("server")
async def test_a_request_above_the_size_limit_is_refused(path: Path, provider: Provider) -> None:
    with pytest.raises(errors.Refused, match=f"at most {BODY_BYTES_MAX} bytes"):
        await call_in_thread(path, Instance.label, instance="i-1", labels={"a": "x" * BODY_BYTES_MAX})
    assert provider.asked == []
    await call_in_thread(path, Instance.label, instance="i-1", labels={"a": "x" * (BODY_BYTES_MAX - 1000)})
    assert len(provider.asked) == 1
