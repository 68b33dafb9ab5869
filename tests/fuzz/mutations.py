"""Almost valid requests and replies of every method, corrupted at the level of bytes and of JSON."""

import json
from typing import Any

import msgspec
from hypothesis import strategies as st

from infrakit.rpc import interfaces, wire
from tests.unit.rpc.test_names import smallest

METHODS = [method for interface in interfaces.INTERFACES for method in wire.methods(interface)]
JUNK = [b"\xff", b"\x00", b"\\ud800", b"\\u0000", b'"', b"{", b"[", b"]", b"}", b",", b":", b"9" * 400, b"1e999", b"-"]
HUGE = [2**63, 2**64, -(2**63) - 1, 10**400, 1e308]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(HUGE)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn, whole: Any) -> Any:
    """A value with some parts replaced, dropped, renamed or repeated."""
    choice = draw(st.integers(0, 9))
    if choice == 0:
        return draw(values)
    if isinstance(whole, dict):
        changed = {name: draw(mutated(value)) for name, value in whole.items() if draw(st.integers(0, 9))}
        if choice == 1:
            changed = {name.swapcase(): value for name, value in changed.items()}
        if choice == 2:
            changed[draw(st.text(max_size=12))] = draw(values)
        return changed
    if isinstance(whole, list):
        return [draw(mutated(value)) for value in whole] * (2 if choice == 1 else 1)
    return whole


@st.composite
def corrupted(draw: st.DrawFn, body: bytes) -> bytes:
    """The body: truncated, with junk inserted, with one byte changed, or unchanged."""
    match draw(st.integers(0, 4)):
        case 0:
            return body[: draw(st.integers(0, len(body)))]
        case 1:
            offset = draw(st.integers(0, len(body)))
            return body[:offset] + draw(st.sampled_from(JUNK)) + body[offset:]
        case 2:
            offset = draw(st.integers(0, max(0, len(body) - 1)))
            return body[:offset] + bytes([draw(st.integers(0, 255))]) + body[offset + 1 :]
    return body


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Requests to the server."""
    method = draw(st.sampled_from(METHODS))
    params = smallest(method.params)
    request = {"jsonrpc": "2.0", "method": method.wire, "params": draw(mutated(params)), "id": draw(st.integers(0, 99))}
    return draw(corrupted(encoded(draw(mutated(request)) if draw(st.integers(0, 3)) == 0 else request)))


@st.composite
def replies(draw: st.DrawFn) -> tuple[wire.Method, bytes]:
    """Replies to a client that has called the method with the request ID 1."""
    method = draw(st.sampled_from(METHODS))
    value = None if method.returns is type(None) else decoded(method.returns)
    result = json.loads(bytes(method.result(value, "", {})))
    reply = {"jsonrpc": "2.0", "result": result, "id": 1}
    if draw(st.integers(0, 4)) == 0:
        reply = {"jsonrpc": "2.0", "error": {"code": -32000, "message": "no", "data": {"Kind": "Conflict"}}, "id": 1}
    return method, draw(corrupted(encoded(draw(mutated(reply)))))


def decoded(type_: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(smallest(type_)), type=type_)
