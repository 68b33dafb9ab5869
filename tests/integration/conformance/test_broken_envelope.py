"""A good plugin whose answers are spoilt on the wire: exactly the check of the rule that is broken fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from infrakit.instances.simulator import Simulator
from infrakit.rpc.server import Server
from tests.integration.conformance.checking import Asked, Spoil, Spoiling, failed, outcomes


def _changed(reply: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(reply) | fields).encode() if reply else reply


def _results(method: str, change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Changes the results of a method, and no errors."""

    def spoil(asked: Asked, reply: bytes) -> bytes:
        found = json.loads(reply) if reply else {}
        if asked.get("method") != method or "result" not in found:
            return reply
        return _changed(reply, result=change(found["result"]))

    return spoil


def _errors(method: str, error: Any) -> Spoil:
    def spoil(asked: Asked, reply: bytes) -> bytes:
        return _changed(reply, error=error) if asked.get("method") == method and b'"error"' in reply else reply

    return spoil


def _when(blocked: Callable[[Asked], Any], instead: bytes | None) -> Spoil:
    return lambda asked, reply: instead if blocked(asked) else reply


def _params(asked: Asked) -> dict[str, Any]:
    params = asked.get("params")
    return params if isinstance(params, dict) else {}


REFUSAL = b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"},"id":7}'


def _without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(result: dict[str, Any]) -> dict[str, Any]:
        listing = [{k: v for k, v in each.items() if k != name} for each in result["Descriptions"]]
        return result | {"Descriptions": listing}

    return change


def _older(result: dict[str, Any]) -> dict[str, Any]:
    return {"Objects": {"Instance/0.5.0": result["Objects"]["Instance/0.6.1"]}}


def _status_of_errors(_asked: Asked, reply: bytes) -> web.Response:
    return web.Response(body=reply, status=500 if b'"error"' in reply else 200)


def _closes_after_half(asked: Asked, reply: bytes) -> web.Response | bytes:
    if asked.get("method") != "Instance.Validate":
        return reply
    return web.Response(body=reply[:-5], headers={"Content-Type": "application/json"})


SPOILT: dict[str, tuple[Spoil, set[str]]] = {
    "answers null": (_results("Instance.Label", lambda _: None), {"instance/label"}),
    "answers true": (_results("Instance.Label", lambda _: True), {"instance/label"}),
    "closes the connection": (_when(lambda a: a.get("method") == "Instance.Validate", None), {"instance/validate"}),
    "answers nothing": (_when(lambda a: a.get("method") == "Instance.Validate", b""), {"instance/validate"}),
    "answers half": (_closes_after_half, {"instance/validate"}),
    "answers its own id": (lambda _, reply: _changed(reply, id=1), {"envelope/id"}),
    "answers notifications": (lambda a, r: r or (REFUSAL if a.get("method") else b""), {"envelope/notification"}),
    "fails as HTTP does": (_status_of_errors, {"http/status"}),
    "errors without words": (_errors("Nothing.Here", {"code": 1, "message": ""}), {"envelope/unknown-method"}),
    "errors without code": (_errors("Nothing.Here", {"message": "no"}), {"envelope/unknown-method"}),
    "errors as text": (_errors("Nothing.Here", "no"), {"envelope/unknown-method"}),
    "an older version": (_results("Handshake.Hello", _older), {"envelope/versions"}),
    "takes any version": (
        _when(lambda a: a.get("jsonrpc") == "1.0", b'{"jsonrpc":"2.0","result":{},"id":7}'),
        {"envelope/version"},
    ),
    "no params by position": (_when(lambda a: isinstance(a.get("params"), list), REFUSAL), {"envelope/params"}),
    "chokes on strange requests": (_when(lambda a: not a, b"what?"), {"envelope/not-json"}),
    "answers half a batch": (
        _when(lambda a: a.get("batch") not in (None, [], 7), b'[{"jsonrpc":"2.0","result":{},"id":1}]'),
        {"envelope/batch"},
    ),
    "refuses what it does not know": (_when(lambda a: "extra" in a, REFUSAL), {"envelope/unknown-fields"}),
    "refuses fields that it does not know": (
        _when(lambda a: "Unheard" in _params(a) and _params(a).get("Spec"), REFUSAL),
        {"instance/unknown-fields"},
    ),
    "knows its fields by one spelling": (_when(lambda a: "TAGS" in _params(a), REFUSAL), {"instance/field-names"}),
    "hides logical IDs": (
        _results("Instance.DescribeInstances", _without("LogicalID")),
        {"instance/describe-after-provision", "instance/logical-id"},
    ),
    "finds every type": (
        _when(lambda a: str(_params(a).get("Type", "")).startswith("none-"), b'{"jsonrpc":"2.0","result":{},"id":1}'),
        {"instance/wrong-type"},
    ),
}


@pytest.mark.parametrize("broken", SPOILT)
async def test_a_broken_rule_is_found(path: Path, broken: str) -> None:
    spoil, expected = SPOILT[broken]
    simulator = Simulator()
    async with Spoiling(path, simulator, spoil):
        found = await outcomes(path)
    assert failed(found) == expected
    assert simulator.live() == []


class Answering(Server):
    """Answers anything, whatever is asked for in HTTP."""

    async def _handle(self, request: web.BaseRequest, known: Any) -> web.StreamResponse:
        if request.method != "POST" or request.path != "/":
            return web.Response(text="hello")
        return await super()._handle(request, known)


class Strict(Server):
    """Wants its content type to the letter."""

    async def _call(self, request: web.BaseRequest) -> web.Response:
        if request.headers.get("Content-Type") != "application/json":
            return web.Response(status=415)
        return await super()._call(request)


@pytest.mark.parametrize(("server", "broken"), [(Answering, "http/method"), (Strict, "http/content-type")])
async def test_broken_http_is_found(path: Path, server: type[Server], broken: str) -> None:
    async with server(path, {".": Simulator()}):
        assert failed(await outcomes(path)) == {broken}


async def test_a_broken_handshake_is_found_and_what_is_asked_for_is_checked(path: Path) -> None:
    spoil = _results("Handshake.Hello", lambda _: {"APIs": []})
    async with Spoiling(path, Simulator(), spoil):
        assert failed(await outcomes(path)) == {"envelope/handshake", "envelope/versions"}
        found = await outcomes(path, kinds=["instance"])
    assert failed(found) == {"envelope/handshake", "envelope/versions"}
    assert "instance/concurrency" in {o.name for o in found}


async def test_what_broke_stands_in_the_report(path: Path) -> None:
    spoil, _ = SPOILT["closes the connection"]
    async with Spoiling(path, Simulator(), spoil):
        (bad,) = [o for o in await outcomes(path) if o.verdict == "failed"]
    assert "the connection was closed after 0 bytes of an answer" in bad.seen
    assert bad.exchanges[-1].answer.startswith("<")
    assert '"method":"Instance.Validate"' in bad.exchanges[-1].request
    spoil, _ = SPOILT["answers null"]
    async with Spoiling(path, Simulator(), spoil):
        (bad,) = [o for o in await outcomes(path) if o.verdict == "failed"]
    assert bad.expected == "a result that is an object, or an error"
    assert '"result": null' in bad.seen
