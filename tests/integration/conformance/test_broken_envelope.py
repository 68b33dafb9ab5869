"""A good plugin whose replies are corrupted on the wire: exactly the check of the broken rule fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from infrakit.instances.simulator import Simulator
from infrakit.rpc.server import Server
from tests.integration.conformance.checking import Corrupt, CorruptingServer, JsonRequest, failed, outcomes


def _changed(reply: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(reply) | fields).encode() if reply else reply


def _results(method: str, change: Callable[[dict[str, Any]], Any]) -> Corrupt:
    """Changes the results of a method, but not its errors."""

    def corrupt(request: JsonRequest, reply: bytes) -> bytes:
        found = json.loads(reply) if reply else {}
        if request.get("method") != method or "result" not in found:
            return reply
        return _changed(reply, result=change(found["result"]))

    return corrupt


def _errors(method: str, error: Any) -> Corrupt:
    def corrupt(request: JsonRequest, reply: bytes) -> bytes:
        return _changed(reply, error=error) if request.get("method") == method and b'"error"' in reply else reply

    return corrupt


def _when(matches: Callable[[JsonRequest], Any], instead: bytes | None) -> Corrupt:
    return lambda request, reply: instead if matches(request) else reply


def _params(request: JsonRequest) -> dict[str, Any]:
    params = request.get("params")
    return params if isinstance(params, dict) else {}


REFUSAL = b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"},"id":7}'


def _without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(result: dict[str, Any]) -> dict[str, Any]:
        listing = [{k: v for k, v in each.items() if k != name} for each in result["Descriptions"]]
        return result | {"Descriptions": listing}

    return change


def _older(result: dict[str, Any]) -> dict[str, Any]:
    return {"Objects": {"Instance/0.5.0": result["Objects"]["Instance/0.6.1"]}}


def _status_of_errors(_request: JsonRequest, reply: bytes) -> web.Response:
    return web.Response(body=reply, status=500 if b'"error"' in reply else 200)


def _truncated(request: JsonRequest, reply: bytes) -> web.Response | bytes:
    if request.get("method") != "Instance.Validate":
        return reply
    return web.Response(body=reply[:-5], headers={"Content-Type": "application/json"})


CORRUPTED: dict[str, tuple[Corrupt, set[str]]] = {
    "answers null": (_results("Instance.Label", lambda _: None), {"instance/label"}),
    "answers true": (_results("Instance.Label", lambda _: True), {"instance/label"}),
    "closes the connection": (_when(lambda a: a.get("method") == "Instance.Validate", None), {"instance/validate"}),
    "empty reply": (_when(lambda a: a.get("method") == "Instance.Validate", b""), {"instance/validate"}),
    "truncated reply": (_truncated, {"instance/validate"}),
    "another id": (lambda _, reply: _changed(reply, id=1), {"envelope/id"}),
    "answers notifications": (lambda a, r: r or (REFUSAL if a.get("method") else b""), {"envelope/notification"}),
    "HTTP status of errors": (_status_of_errors, {"http/status"}),
    "errors without a message": (_errors("Nothing.Here", {"code": 1, "message": ""}), {"envelope/unknown-method"}),
    "errors without code": (_errors("Nothing.Here", {"message": "no"}), {"envelope/unknown-method"}),
    "errors as text": (_errors("Nothing.Here", "no"), {"envelope/unknown-method"}),
    "an older version": (_results("Handshake.Hello", _older), {"envelope/versions"}),
    "accepts any version": (
        _when(lambda a: a.get("jsonrpc") == "1.0", b'{"jsonrpc":"2.0","result":{},"id":7}'),
        {"envelope/version"},
    ),
    "refuses positional params": (_when(lambda a: isinstance(a.get("params"), list), REFUSAL), {"envelope/params"}),
    "invalid reply to invalid JSON": (_when(lambda a: not a, b"what?"), {"envelope/not-json"}),
    "answers only a part of a batch": (
        _when(lambda a: a.get("batch") not in (None, [], 7), b'[{"jsonrpc":"2.0","result":{},"id":1}]'),
        {"envelope/batch"},
    ),
    "refuses unknown fields of the envelope": (_when(lambda a: "extra" in a, REFUSAL), {"envelope/unknown-fields"}),
    "refuses unknown fields of params": (
        _when(lambda a: "Unknown" in _params(a) and _params(a).get("Spec"), REFUSAL),
        {"instance/unknown-fields"},
    ),
    "case-sensitive field names": (_when(lambda a: "TAGS" in _params(a), REFUSAL), {"instance/field-names"}),
    "omits logical IDs": (
        _results("Instance.DescribeInstances", _without("LogicalID")),
        {"instance/describe-after-provision", "instance/logical-id"},
    ),
    "accepts every type": (
        _when(lambda a: str(_params(a).get("Type", "")).startswith("none-"), b'{"jsonrpc":"2.0","result":{},"id":1}'),
        {"instance/wrong-type"},
    ),
}


@pytest.mark.parametrize("broken", CORRUPTED)
async def test_the_check_of_a_broken_rule_fails(path: Path, broken: str) -> None:
    corrupt, expected = CORRUPTED[broken]
    simulator = Simulator()
    async with CorruptingServer(path, simulator, corrupt):
        found = await outcomes(path)
    assert failed(found) == expected
    assert simulator.live() == []


class AnyMethod(Server):
    """Answers every HTTP method and path."""

    async def _handle(self, request: web.BaseRequest, known: Any) -> web.StreamResponse:
        if request.method != "POST" or request.path != "/":
            return web.Response(text="hello")
        return await super()._handle(request, known)


class Strict(Server):
    """Requires exactly one content type."""

    async def _call(self, request: web.BaseRequest) -> web.Response:
        if request.headers.get("Content-Type") != "application/json":
            return web.Response(status=415)
        return await super()._call(request)


@pytest.mark.parametrize(("server", "broken"), [(AnyMethod, "http/method"), (Strict, "http/content-type")])
async def test_a_violation_of_the_http_rules_is_found(path: Path, server: type[Server], broken: str) -> None:
    async with server(path, {".": Simulator()}):
        assert failed(await outcomes(path)) == {broken}


async def test_a_broken_handshake_is_found_and_requested_kinds_are_still_checked(path: Path) -> None:
    corrupt = _results("Handshake.Hello", lambda _: {"APIs": []})
    async with CorruptingServer(path, Simulator(), corrupt):
        assert failed(await outcomes(path)) == {"envelope/handshake", "envelope/versions"}
        found = await outcomes(path, kinds=["instance"])
    assert failed(found) == {"envelope/handshake", "envelope/versions"}
    assert "instance/concurrency" in {o.name for o in found}


async def test_a_failed_check_reports_its_expectation_and_exchanges(path: Path) -> None:
    corrupt, _ = CORRUPTED["closes the connection"]
    async with CorruptingServer(path, Simulator(), corrupt):
        (bad,) = [o for o in await outcomes(path) if o.verdict == "failed"]
    assert "the connection was closed after 0 bytes of an answer" in bad.seen
    assert bad.exchanges[-1].answer.startswith("<")
    assert '"method":"Instance.Validate"' in bad.exchanges[-1].request
    corrupt, _ = CORRUPTED["answers null"]
    async with CorruptingServer(path, Simulator(), corrupt):
        (bad,) = [o for o in await outcomes(path) if o.verdict == "failed"]
    assert bad.expected == "a result that is an object, or an error"
    assert '"result": null' in bad.seen
