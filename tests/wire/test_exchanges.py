"""Exchanges of the original, as seen on the wire: we ask and answer in the same shapes.

What we add (the fact that a verdict of health rests on, an `OK` where the original says nothing) is allowed, because
its decoders ignore what they do not know; what it says must be there, under that very name and with that value.
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
async def test_we_answer_as_the_original(exchange: dict[str, Any]) -> None:
    """What its answer means to our client, given by a plugin of ours, is its answer again."""
    method = METHODS[exchange["method"]]
    plugin = answering(method.interface, method.value(raw(exchange["result"])))
    address = exchange["params"].get(method.interface.address, "")
    key = address.partition("/")[2] or address or "."
    reply = await ask(Dispatcher({key: plugin}), exchange["method"], exchange["params"])
    assert missing(exchange["result"], reply["result"]) == []
    assert list(reply["result"])[: len(exchange["result"])] == list(exchange["result"])


@pytest.mark.parametrize("exchange", TYPED)
def test_we_ask_as_the_original(exchange: dict[str, Any]) -> None:
    """What its params mean to our plugins, sent by a client of ours, is its params again."""
    method = METHODS[exchange["method"]]
    arguments, address = wire.arguments(method, method.decode(raw(exchange["params"])))
    sent = {wire_name(name): value for name, value in arguments.items()}
    if method.interface.address:
        sent[method.interface.address] = address
    if exchange["method"] == "Group.InspectGroups":
        sent["ID"] = ""  # it sends an ID that it does not read
    assert missing(exchange["params"], json.loads(msgspec.json.encode(sent))) == []


@pytest.mark.parametrize("exchange", load("envelope"))
async def test_the_envelope(exchange: dict[str, str]) -> None:
    reply = await Dispatcher({".": Forgetful()}).answer(exchange["request"].encode())
    if '"code":-32000' not in exchange["reply"]:
        assert reply.decode() == exchange["reply"]
    else:  # `data` is where we say more
        said, expected = json.loads(reply), json.loads(exchange["reply"])
        said["error"]["data"] = None
        assert list(said["error"]) == ["code", "message", "data"]
        assert said == expected


@pytest.mark.parametrize("exchange", load("handshake"))
async def test_the_handshake(exchange: dict[str, Any]) -> None:
    names = {name for served in exchange["serves"].values() for name in served}
    objects = {}
    for name in names:
        kinds = [INTERFACES[kind] for kind, served in exchange["serves"].items() if name in served]
        objects[name] = answering(kinds[0], None)
    reply = await ask(Dispatcher(objects), "Handshake.Hello")
    assert reply["result"] == exchange["result"]


@pytest.mark.parametrize("exchange", load("http"))
async def test_the_transport(directory: Path, exchange: dict[str, Any]) -> None:
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


class Forgetful(Provider):
    """Knows no instance that shall be destroyed, and says so in its own words."""

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        raise PluginError(f"not found {instance}")


def answering(interface: interfaces.Interface, value: Any) -> object:
    """An object that satisfies an interface and always answers the same."""

    async def method(_self: object, **_parameters: Any) -> Any:
        return value

    names = [name for name in dir(interface.protocol) if not name.startswith("_")]
    made: object = type("Answering", (), dict.fromkeys(names, method))()
    return made


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def missing(expected: Any, found: Any, path: str = "$") -> list[str]:
    """Where `found` does not say what `expected` says. `null` and empty are the same to the original."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [m for name in expected for m in missing(expected[name], found.get(name, ABSENT), f"{path}.{name}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [m for n, pair in enumerate(zip(expected, found, strict=True)) for m in missing(*pair, f"{path}[{n}]")]
    same = expected == found or (expected is None and found in ([], {}))
    return [] if same else [f"{path}: {expected!r} became {found!r}"]
