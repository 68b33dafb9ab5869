"""Checks of HTTP, the JSON-RPC envelope and the handshake, which are common to all plugins."""

import json
from typing import Any

from infrakit.conformance.check import Subject, Suite, expect, expect_error
from infrakit.conformance.probe import Probe, Unmet
from infrakit.rpc.interfaces import INTERFACES
from infrakit.spi import errors

HTTP = Suite("http")
SUITE = Suite("envelope")
HELLO = "Handshake.Hello"
LARGE_BYTES = 2 * 1024 * 1024
VERSIONS = dict(interface.announced.split("/", 1) for interface in INTERFACES)


def _hello(**changes: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": HELLO, "params": {}, "id": 7} | changes).encode()


async def announced(probe: Probe) -> dict[str, list[str]]:
    """Return the names of objects by interface, `Name/Version`. Raises `Unmet`."""
    result = await probe.ask(HELLO, {})
    objects = result.get("Objects") if isinstance(result, dict) else None
    if not isinstance(objects, dict) or not objects:
        raise Unmet("Objects, by interface and version", str(result))
    for interface, held in objects.items():
        expect("/" in interface, "interfaces as Name/Version", interface)
        expect(held is None or isinstance(held, list), f"a list of the objects of {interface}", held)
        for each in held or ():
            expect(isinstance(each, dict) and isinstance(each.get("Name"), str), "each object with its Name", held)
    return {interface: [each["Name"] for each in held or ()] for interface, held in objects.items()}


async def _answered(subject: Subject, body: bytes) -> dict[str, Any]:
    """Return the reply to a variant of the handshake request. Raises `Unmet` if it has no result."""
    reply = await subject.probe.reply(body)
    expect(isinstance(reply.get("result"), dict), "the same reply as to the request without variations", reply)
    return reply


@HTTP.rule("status", "every result of a call is HTTP 200, including errors")
async def status(subject: Subject) -> None:
    for body in (_hello(), _hello(method="Nothing.Here")):
        answer = await subject.probe.http(body)
        expect(answer.status == 200, "200", answer.head)


@HTTP.rule("method", "calls are POSTed to /: other methods, and other paths, are refused with a status of 400 or more")
async def method(subject: Subject) -> None:
    for answer in (
        await subject.probe.http(method="GET"),
        await subject.probe.http(_hello(), path="no/such/path"),
    ):
        expect(answer.status >= 400, "400 or more", answer.head)


@HTTP.rule("content-type", "the content type may be missing, have parameters, and be written in any case")
async def content_type(subject: Subject) -> None:
    for type_ in (None, "application/json; charset=utf-8", "Application/JSON"):
        answer = await subject.probe.http(_hello(), content_type=type_)
        expect(answer.status == 200, f"200 for {type_}", answer.head)


@HTTP.rule("strict-content-type", "capability: a content type other than JSON is refused, as browsers can send it")
async def strict_content_type(subject: Subject) -> bool:
    return (await subject.probe.http(_hello(), content_type="text/plain")).status >= 400


@HTTP.rule("large", "capability: a request of 2 MiB is accepted")
async def large(subject: Subject) -> bool:
    try:
        answer = await subject.probe.http(_hello(padding="x" * LARGE_BYTES))
    except errors.OutcomeUnknown:
        return False
    return answer.status == 200 and b'"result"' in answer.body


@HTTP.rule("info", "capability: /info/api.json describes the methods, with examples")
async def info(subject: Subject) -> bool:
    answer = await subject.probe.http(method="GET", path="info/api.json")
    try:
        return answer.status == 200 and isinstance(json.loads(answer.body), dict)
    except (ValueError, RecursionError):
        return False


@SUITE.rule("handshake", "Handshake.Hello names the objects of every interface")
async def handshake(subject: Subject) -> None:
    await announced(subject.probe)


@SUITE.rule("versions", "a known interface has the version that clients require; they compare it exactly")
async def versions(subject: Subject) -> None:
    for interface in await announced(subject.probe):
        name, _, version = interface.partition("/")
        expect(version == VERSIONS.get(name, version), f"{name}/{VERSIONS.get(name)}", interface)


@SUITE.rule("id", "the id is returned as it was sent, whatever JSON value it is")
async def same_id(subject: Subject) -> None:
    for id_ in (7, "seven", 2**53 - 1, {"a": [1]}):
        reply = await subject.probe.reply(_hello(id=id_))
        expect(reply.get("id") == id_, f"id {json.dumps(id_)}", reply)


@SUITE.rule(
    "large-id", "capability: an id beyond 2^53 is returned exactly; the original's clients send such, and ignore it"
)
async def large_id(subject: Subject) -> bool:
    reply = await subject.probe.reply(_hello(id=2**62 + 1))
    return bool(reply.get("id") == 2**62 + 1)


@SUITE.rule("notification", "a request without an id, or with null, gets no reply")
async def notification(subject: Subject) -> None:
    for body in (_hello(id=None), json.dumps({"jsonrpc": "2.0", "method": HELLO, "params": {}}).encode()):
        answer = (await subject.probe.send(body)).strip()
        expect(not answer, "an empty response", answer.decode(errors="replace"))


@SUITE.rule("params", "params may be absent, an object, or an array of one or none")
async def params(subject: Subject) -> None:
    absent = json.dumps({"jsonrpc": "2.0", "method": HELLO, "id": 7}).encode()
    for body in (absent, _hello(params=[{}]), _hello(params=[])):
        await _answered(subject, body)


@SUITE.rule("version", "a request that is not JSON-RPC 2.0 is an error")
async def version(subject: Subject) -> None:
    reply = await subject.probe.reply(_hello(jsonrpc="1.0"))
    expect(isinstance(reply.get("error"), dict), "an error", reply)


@SUITE.rule("unknown-method", "an unknown service or method is an error with a message")
async def unknown(subject: Subject) -> None:
    for name in ("Nothing.Here", "Handshake.Nothing", "nodot"):
        expect_error(await subject.probe.ask(name, {}), name)


@SUITE.rule("not-json", "an invalid request gets no reply or a JSON-RPC error, and the next request gets a reply")
async def not_json(subject: Subject) -> None:
    for body in (b"{", b"", b"7", b"[]", b"\xff", b'{"jsonrpc":"2.0"}', b"[" * 2000, _hello(method=7)):
        answer = (await subject.probe.send(body)).strip()
        expect(not answer or _is_error(answer), "nothing, or an error", answer.decode(errors="replace"))
        await _answered(subject, _hello())


@SUITE.rule("batch", "a batch gets no reply, an error, or one reply to each of its requests")
async def batch(subject: Subject) -> None:
    answer = (await subject.probe.send(b"[" + _hello(id=1) + b"," + _hello(id=2) + b"]")).strip()
    reply = json.loads(answer) if answer else None
    each = isinstance(reply, list) and [r["id"] for r in reply] == [1, 2]
    expect(each or not answer or _is_error(answer), "nothing, an error, or two replies", answer.decode())
    await _answered(subject, _hello())


@SUITE.rule("unknown-fields", "unknown fields are ignored")
async def unknown_fields(subject: Subject) -> None:
    await _answered(subject, _hello(extra={"a": 1}, params={"Unknown": [1]}))


def _is_error(answer: bytes) -> bool:
    reply = json.loads(answer)
    return isinstance(reply, dict) and isinstance(reply.get("error"), dict)
