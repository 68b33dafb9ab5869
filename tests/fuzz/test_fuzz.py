"""Hostile input: whatever arrives, a server answers or stays silent, and a client returns a value or an error of ours.

`python -m tests.fuzz 10` goes on for ten minutes.
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

hostile = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


class Raised(logging.Handler):
    """An exception that the dispatcher had to log is a fault: of the plugins here, none fails."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info or (None, None))[1]


@pytest.fixture(autouse=True, scope="module")
def _no_faults() -> Any:
    log, handler = logging.getLogger("infrakit.rpc.dispatch"), Raised()
    log.addHandler(handler)
    yield
    log.removeHandler(handler)


SERVED = Dispatcher({".": tuple(plugin_for(each) for each in interfaces.INTERFACES if wire.methods(each))})


@given(body=mutations.requests())
@hostile
def test_a_server_answers_or_stays_silent(body: bytes) -> None:
    answer = asyncio.run(SERVED.answer(body))
    if answer:
        reply = json.loads(answer)
        assert reply["jsonrpc"] == "2.0"
        assert ("result" in reply) != ("error" in reply)
        assert reply["id"] is not None


class Canned(Transport):
    """Answers what the test says, as if it had come over a socket."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.body = b""

    async def post(self, body: bytes, *, deadline_s: float) -> bytes:
        return self.body


@given(asked=mutations.replies())
@hostile
def test_a_client_has_a_value_of_the_type_or_an_error_of_ours(asked: tuple[wire.Method, bytes]) -> None:
    method, body = asked
    transport = Canned()
    transport.body = body

    async def ask() -> Any:
        return await client.exchange(transport, "p", method.wire, {}, method.read, deadline_s=1.0, id_=1)

    try:
        value = asyncio.run(ask())
    except InfraKitError:
        return
    if method.returns is not type(None):
        msgspec.json.decode(msgspec.json.encode(value), type=method.returns)


@given(asked=mutations.replies())
@hostile
def test_a_handshake_is_read_or_refused(asked: tuple[wire.Method, bytes]) -> None:
    transport = Canned()
    transport.body = asked[1].replace(b'"ID"', b'"Objects"').replace(b'"Descriptions"', b'"Objects"')
    try:
        served = asyncio.run(client.hello(transport, "p"))
    except InfraKitError:
        return
    assert all(isinstance(name, str) for names in served.values() for name in names)
