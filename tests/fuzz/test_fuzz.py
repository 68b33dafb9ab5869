"""Fuzzing: for any input, a server sends a valid or empty reply, and a client returns a value or raises InfraKitError.

`python -m tests.fuzz 10` runs for ten minutes.
"""

import asyncio
import json
import logging
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from infrakit.rpc import client, interfaces, wire
from infrakit.rpc.dispatch import Dispatcher
from infrakit.rpc.transport import Transport
from infrakit.spi.errors import InfraKitError
from tests.fuzz import mutations
from tests.unit.rpc.test_names import plugin_for

EXAMPLES = 400

fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


class FailingHandler(logging.Handler):
    """Fails the test when the dispatcher logs an exception: the plugins of these tests raise none."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info or (None, None))[1]


@pytest.fixture(autouse=True, scope="module")
def _no_logged_exceptions() -> Any:
    log, handler = logging.getLogger("infrakit.rpc.dispatch"), FailingHandler()
    log.addHandler(handler)
    yield
    log.removeHandler(handler)


DISPATCHER = Dispatcher({".": tuple(plugin_for(each) for each in interfaces.INTERFACES if wire.methods(each))})


@given(body=mutations.requests())
@fuzzed
def test_a_server_sends_a_valid_reply_or_an_empty_one(body: bytes) -> None:
    answer = asyncio.run(DISPATCHER.answer(body))
    if answer:
        reply = json.loads(answer)
        assert reply["jsonrpc"] == "2.0"
        assert ("result" in reply) != ("error" in reply)
        assert reply["id"] is not None


class Canned(Transport):
    """Returns the bytes that the test sets, as if they had arrived over a socket."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.body = b""

    async def post(self, body: bytes, *, deadline_s: float, may_wait: bool = False) -> bytes:
        return self.body


@given(exchange=mutations.replies())
@fuzzed
def test_a_client_returns_a_value_of_the_type_or_raises_infrakit_error(exchange: tuple[wire.Method, bytes]) -> None:
    method, body = exchange
    transport = Canned()
    transport.body = body

    async def call() -> Any:
        return await client.exchange(transport, "p", method.wire, {}, method.read, deadline_s=1.0, id_=1)

    try:
        value = asyncio.run(call())
    except InfraKitError:
        return
    if method.returns is not type(None):
        msgspec.json.decode(msgspec.json.encode(value), type=method.returns)


@given(exchange=mutations.replies())
@fuzzed
def test_a_handshake_is_decoded_or_rejected(exchange: tuple[wire.Method, bytes]) -> None:
    transport = Canned()
    transport.body = exchange[1].replace(b'"ID"', b'"Objects"').replace(b'"Descriptions"', b'"Objects"')
    try:
        served = asyncio.run(client.hello(transport, "p"))
    except InfraKitError:
        return
    assert all(isinstance(name, str) for names in served.values() for name in names)
