"""Recorded exchanges of the original: our requests and replies have the same format.

Additional fields (the note of a health verdict, an `OK` where the original returns nothing) are allowed, because its
decoders ignore unknown fields; every field of the original must be present, with its exact name and value.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.rpc import interfaces, wire
from infrakit.rpc.dispatch import Dispatcher
from infrakit.rpc.server import Server
from infrakit.spi.errors import PluginError
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import InstanceID, wire_name
from tests.integration.rpc.daemons import connect
from tests.unit.rpc.asking import ask
from tests.unit.rpc.plugins import Provider

EXCHANGES = Path(__file__).parent / "exchanges"
METHODS = {method.wire: method for interface in interfaces.INTERFACES for method in wire.methods(interface)}
INTERFACES = {interface.announced: interface for interface in interfaces.INTERFACES}


def load(*names: str) -> list[Any]:
    return [
        pytest.param(exchange, id=f"{name}: {exchange.get('name') or exchange['method']}")
        for name in names
        for exchange in json.loads((EXCHANGES / f"{name}.json").read_text())
    ]


ABSENT = "absent"
TYPED = load("instance", "flavor", "group", "manager", "metadata", "updatable", "event", "controller")


@pytest.mark.parametrize("exchange", TYPED)
async def test_replies_have_the_format_of_the_original(exchange: dict[str, Any]) -> None:
    """A result of the original, decoded by our client and returned by our plugin, is encoded as the same result."""
    method = METHODS[exchange["method"]]
    plugin = plugin_returning(method.interface, method.value(raw(exchange["result"])))
    address = exchange["params"].get(method.interface.address, "")
    key = address.partition("/")[2] or address or "."
    reply = await ask(Dispatcher({key: plugin}), exchange["method"], exchange["params"])
    assert missing(exchange["result"], reply["result"]) == []
    assert list(reply["result"])[: len(exchange["result"])] == list(exchange["result"])


@pytest.mark.parametrize("exchange", TYPED)
def test_requests_have_the_format_of_the_original(exchange: dict[str, Any]) -> None:
    """Params of the original, decoded for our plugin and sent by our client, are encoded as the same params."""
    method = METHODS[exchange["method"]]
    arguments, address = wire.arguments(method, method.decode(raw(exchange["params"])))
    sent = {wire_name(name): value for name, value in arguments.items()}
    if method.interface.address:
        sent[method.interface.address] = address
    if exchange["method"] == "Group.InspectGroups":
        sent["ID"] = ""  # the original sends an ID that it does not read
    assert missing(exchange["params"], json.loads(msgspec.json.encode(sent))) == []


@pytest.mark.parametrize("exchange", load("envelope"))
async def test_the_envelope_of_the_original(exchange: dict[str, str]) -> None:
    reply = await Dispatcher({".": NotFound()}).answer(exchange["request"].encode())
    if '"code":-32000' not in exchange["reply"]:
        assert reply.decode() == exchange["reply"]
    else:  # `data` holds what we add
        actual, expected = json.loads(reply), json.loads(exchange["reply"])
        actual["error"]["data"] = None
        assert list(actual["error"]) == ["code", "message", "data"]
        assert actual == expected


@pytest.mark.parametrize("exchange", load("handshake"))
async def test_the_handshake_of_the_original(exchange: dict[str, Any]) -> None:
    names = {name for served in exchange["serves"].values() for name in served}
    objects = {}
    for name in names:
        kinds = [INTERFACES[kind] for kind, served in exchange["serves"].items() if name in served]
        objects[name] = plugin_returning(kinds[0], None)
    reply = await ask(Dispatcher(objects), "Handshake.Hello")
    assert reply["result"] == exchange["result"]


@pytest.mark.parametrize("exchange", load("http"))
async def test_the_http_transport_of_the_original(directory: Path, exchange: dict[str, Any]) -> None:
    async with Server(directory / "p", {".": Provider()}), connect(directory / "p") as client:
        answer = await client.exchange(exchange["request"].encode())
    assert (answer.status, answer.body.decode()) == (exchange["status"], exchange["body"])
    assert answer.headers["content-length"] == str(len(answer.body))
    assert "date" in answer.headers


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield made
    shutil.rmtree(made)


class NotFound(Provider):
    """Finds no instance to destroy, and raises an error with its own message."""

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        raise PluginError(f"not found {instance}")


def plugin_returning(interface: interfaces.Interface, value: Any) -> object:
    """An object that satisfies an interface and always returns the same value."""

    async def method(_self: object, **_parameters: Any) -> Any:
        return value

    names = [name for name in dir(interface.protocol) if not name.startswith("_")]
    made: object = type("Answering", (), dict.fromkeys(names, method))()
    return made


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def missing(expected: Any, found: Any, path: str = "$") -> list[str]:
    """Where `found` differs from `expected`. `null` and empty are the same to the original."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [m for name in expected for m in missing(expected[name], found.get(name, ABSENT), f"{path}.{name}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [m for n, pair in enumerate(zip(expected, found, strict=True)) for m in missing(*pair, f"{path}[{n}]")]
    same = expected == found or (expected is None and found in ([], {}))
    return [] if same else [f"{path}: {expected!r} became {found!r}"]
