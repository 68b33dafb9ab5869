"""A raw client: it sends any request, valid or not, and records requests and responses unchanged."""

import collections
import itertools
import json
from typing import Any

import msgspec

from infrakit.conformance.raw import JSON, Answer, Wire
from infrakit.spi import errors
from infrakit.spi.values import wire_name

DEADLINE_S = 60.0
EXCHANGES_MAX = 100  # per check; the last ones are kept
SHOWN_MAX = 16 * 1024  # characters of a request or response
REJECTED = (401, 403, 503)  # HTTP status of a server that has not read the request


class Exchange(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """A request and its response as they were on the wire; an error stands in place of a missing response."""

    request: str
    answer: str


class Failure(msgspec.Struct, frozen=True):
    """A JSON-RPC error."""

    code: Any
    message: Any


class Unmet(Exception):
    """The plugin violates the rule."""

    def __init__(self, expected: str, seen: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.seen = seen if isinstance(seen, str) else json.dumps(seen, default=str)


class Probe:
    """The client of one address."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ids = itertools.count(1)
        self.exchanges: collections.deque[Exchange] = collections.deque(maxlen=EXCHANGES_MAX)

    async def http(
        self, body: bytes = b"", *, method: str = "POST", path: str = "", content_type: str | None = JSON
    ) -> Answer:
        """Send any request and return the whole response. Raises what `Wire.send` raises, and `Refused` if rejected."""
        head = self._wire.head(body, method=method, path=path, content_type=content_type)
        try:
            answer = await self._wire.send(head, body, deadline_s=DEADLINE_S)
        except errors.InfraKitError as error:
            self._record(head, body, f"<{error}>", b"")
            raise
        self._record(head, body, answer.head, answer.body)
        if answer.status in REJECTED:
            words = answer.body[:200].decode(errors="replace").strip()
            raise errors.Refused(f"it answers {answer.status}: {words}", where=self._wire.address)
        return answer

    async def send(self, body: bytes) -> bytes:
        """Send any body and return that of the response."""
        return (await self.http(body)).body

    async def reply(self, body: bytes) -> dict[str, Any]:
        """Send a body and return the response, which must be a JSON object. Raises `Unmet` if it is not."""
        answer = await self.send(body)
        try:
            reply = json.loads(answer)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise Unmet("a JSON-RPC reply", answer[:500].decode(errors="replace") or "an empty answer")
        return reply

    async def ask(self, method: str, params: Any) -> dict[str, Any] | Failure:
        """Return the `result` of a call, or its error. Raises `Unmet` if the response has neither.

        Like the original's client, it ignores the status and the id.
        """
        reply = await self.reply(request(method, params, id_=next(self._ids)))
        error = reply.get("error")
        if error is not None:
            if not isinstance(error, dict):
                raise Unmet("an error with code and message", error)
            return Failure(error.get("code"), error.get("message"))
        result = reply.get("result")
        if not isinstance(result, dict):
            raise Unmet("a result that is an object, or an error", reply)
        return result

    def _record(self, head: str, body: bytes, answer: str, answered: bytes) -> None:
        self.exchanges.append(Exchange(request=_shown(head, body), answer=_shown(answer, answered)))


def request(method: str, params: Any, *, id_: Any = None) -> bytes:
    """Return the body of a call; without an id, of a notification."""
    named = {"jsonrpc": "2.0", "method": method, "params": params}
    text = json.dumps(named if id_ is None else named | {"id": id_}, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="replace")


def _shown(head: str, body: bytes) -> str:
    text = head.replace("\r\n", "\n") + (f"\n\n{body.decode(errors='replace').strip()}" if body else "")
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}... ({len(text) - SHOWN_MAX} more)"
