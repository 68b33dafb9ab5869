"""A client that hides nothing: it sends what it is told, keeps what came back, and judges neither."""

import collections
import itertools
import json
from typing import Any

import msgspec

from infrakit.conformance.raw import JSON, Answer, Wire
from infrakit.spi import errors
from infrakit.spi.values import wire_name

DEADLINE_S = 60.0
EXCHANGES_MAX = 100  # of one check; the last ones are kept
SHOWN_MAX = 16 * 1024  # characters of a request, and of an answer
TURNED_AWAY = (401, 403, 503)  # what a server answers that has not looked at the request


class Exchange(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """A request and its answer as they were on the wire; what broke stands in place of an answer."""

    request: str
    answer: str


class Failure(msgspec.Struct, frozen=True):
    """A JSON-RPC error."""

    code: Any
    message: Any


class Unmet(Exception):
    """The plugin does not keep the rule."""

    def __init__(self, expected: str, seen: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.seen = seen if isinstance(seen, str) else json.dumps(seen, default=str)


class Probe:
    """Talks to one address."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ids = itertools.count(1)
        self.exchanges: collections.deque[Exchange] = collections.deque(maxlen=EXCHANGES_MAX)

    async def http(
        self, body: bytes = b"", *, method: str = "POST", path: str = "", content_type: str | None = JSON
    ) -> Answer:
        """Any request, and the whole answer. Raises what the wire raises; `Refused` if we are turned away."""
        head = self._wire.head(body, method=method, path=path, content_type=content_type)
        try:
            answer = await self._wire.send(head, body, deadline_s=DEADLINE_S)
        except errors.InfraKitError as error:
            self._keep(head, body, f"<{error}>", b"")
            raise
        self._keep(head, body, answer.head, answer.body)
        if answer.status in TURNED_AWAY:
            words = answer.body[:200].decode(errors="replace").strip()
            raise errors.Refused(f"it answers {answer.status}: {words}", where=self._wire.address)
        return answer

    async def send(self, body: bytes) -> bytes:
        """Any body, and that of the answer."""
        return (await self.http(body)).body

    async def reply(self, body: bytes) -> dict[str, Any]:
        """The same, for what must be answered by a JSON object. Raises `Unmet` if it is not."""
        answer = await self.send(body)
        try:
            reply = json.loads(answer)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise Unmet("a JSON-RPC reply", answer[:500].decode(errors="replace") or "an empty answer")
        return reply

    async def ask(self, method: str, params: Any) -> dict[str, Any] | Failure:
        """The `result` of a call, or its error. Raises `Unmet` if the answer is neither.

        As the original's client, it looks at neither the status nor the id.
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

    def _keep(self, head: str, body: bytes, answer: str, answered: bytes) -> None:
        self.exchanges.append(Exchange(request=_shown(head, body), answer=_shown(answer, answered)))


def request(method: str, params: Any, *, id_: Any = None) -> bytes:
    """The body of a call; without an id, of a notification."""
    named = {"jsonrpc": "2.0", "method": method, "params": params}
    text = json.dumps(named if id_ is None else named | {"id": id_}, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="replace")


def _shown(head: str, body: bytes) -> str:
    text = head.replace("\r\n", "\n") + (f"\n\n{body.decode(errors='replace').strip()}" if body else "")
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}... ({len(text) - SHOWN_MAX} more)"
