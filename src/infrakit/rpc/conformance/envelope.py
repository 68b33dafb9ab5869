"""The envelope and the handshake, which every plugin shares."""

import json

from infrakit.rpc.conformance.check import Subject, Suite, expect
from infrakit.rpc.conformance.probe import Failure

SUITE = Suite("envelope")
HELLO = "Handshake.Hello"


def _hello(**changes: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": HELLO, "params": {}, "id": 7} | changes).encode()


@SUITE.rule("handshake", "Handshake.Hello names the objects of every interface")
async def handshake(subject: Subject) -> None:
    result = await subject.probe.ask(HELLO, {})
    expect(not isinstance(result, Failure), "an answer to Handshake.Hello", repr(result))
    objects = result["Objects"] if isinstance(result, dict) else None
    expect(isinstance(objects, dict) and objects, "Objects, by interface and version", objects)
    for interface, named in (objects or {}).items():
        expect("/" in interface, "interfaces as Name/Version", interface)
        expect(all("Name" in each for each in named or ()), "each object with its Name", named)


@SUITE.rule("id", "the id comes back as it was sent, whatever JSON it is")
async def same_id(subject: Subject) -> None:
    for id_ in (7, "seven", 2**53 - 1, {"a": [1]}):
        reply = json.loads(await subject.probe.send(_hello(id=id_)))
        expect(reply.get("id") == id_, f"id {json.dumps(id_)}", reply.get("id"))


@SUITE.rule(
    "large-id", "capability: an id beyond 2^53 comes back exactly; the original's clients send such, and ignore it"
)
async def large_id(subject: Subject) -> bool:
    reply = json.loads(await subject.probe.send(_hello(id=2**62 + 1)))
    return bool(reply.get("id") == 2**62 + 1)


@SUITE.rule("notification", "without an id, or with null, a method is executed and nothing is answered")
async def notification(subject: Subject) -> None:
    for body in (_hello(id=None), json.dumps({"jsonrpc": "2.0", "method": HELLO, "params": {}}).encode()):
        answer = (await subject.probe.send(body)).strip()
        expect(not answer, "an empty answer", answer.decode(errors="replace"))


@SUITE.rule("params", "params may be absent, an object, or an array of one")
async def params(subject: Subject) -> None:
    absent = json.dumps({"jsonrpc": "2.0", "method": HELLO, "id": 7}).encode()
    for body in (absent, _hello(params=[{}]), _hello(params=[])):
        reply = json.loads(await subject.probe.send(body))
        expect(isinstance(reply.get("result"), dict), "the same answer as to an object", reply)


@SUITE.rule("version", "a request that is not JSON-RPC 2.0 is an error")
async def version(subject: Subject) -> None:
    reply = json.loads(await subject.probe.send(_hello(jsonrpc="1.0")))
    expect(isinstance(reply.get("error"), dict), "an error", reply)


@SUITE.rule("unknown-method", "an unknown service or method is an error with a message")
async def unknown(subject: Subject) -> None:
    for method in ("Nothing.Here", "Handshake.Nothing", "nodot"):
        reply = await subject.probe.ask(method, {})
        expect(isinstance(reply, Failure) and reply.message, f"an error for {method}", repr(reply))


@SUITE.rule("not-json", "what is no request gets no answer, or a JSON-RPC error, and the next one is answered")
async def not_json(subject: Subject) -> None:
    for body in (b"{", b"", b"[]", b"\xff", b'{"jsonrpc":"2.0"}', b"[" * 2000, _hello(method=7)):
        answer = (await subject.probe.send(body)).strip()
        expect(not answer or "error" in json.loads(answer), "nothing, or an error", answer.decode(errors="replace"))
        await handshake(subject)


@SUITE.rule("unknown-fields", "fields that nobody knows are ignored")
async def unknown_fields(subject: Subject) -> None:
    reply = json.loads(await subject.probe.send(_hello(extra={"a": 1}, params={"Unheard": [1]})))
    expect(isinstance(reply.get("result"), dict), "the same answer as without them", reply)
