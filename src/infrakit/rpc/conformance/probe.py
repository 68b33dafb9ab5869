"""A client that hides nothing: it sends what it is told, keeps what came back, and judges neither."""

import itertools
import json
from typing import Any

import msgspec

from infrakit.rpc.transport import Transport
from infrakit.spi.errors import InfraKitError
from infrakit.spi.values import wire_name

DEADLINE_S = 60.0


class Exchange(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """A request and its answer as they were on the wire; what broke stands in place of an answer."""

    request: str
    answer: str


class Failure(msgspec.Struct, frozen=True):
    """A JSON-RPC error."""

    code: Any
    message: Any


class Probe:
    """Talks to one address."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ids = itertools.count(1)
        self.exchanges: list[Exchange] = []

    async def send(self, body: bytes) -> bytes:
        """Any bytes, and the bytes of the answer. Raises what the transport raises."""
        try:
            answer = await self._transport.post(body, deadline_s=DEADLINE_S)
        except InfraKitError as error:
            self._keep(body, f"<{error}>".encode())
            raise
        self._keep(body, answer)
        return answer

    async def ask(self, method: str, params: Any) -> dict[str, Any] | Failure:
        """The `result` of a call, or its error. Raises `ValueError`, `TypeError` if the answer is neither."""
        id_ = next(self._ids)
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": id_}).encode()
        answer = await self.send(body)
        reply = json.loads(answer)
        if not isinstance(reply, dict):
            raise TypeError("the answer is no JSON object")
        error = reply.get("error")
        if error is not None:
            held = error if isinstance(error, dict) else {}
            return Failure(held.get("code"), held.get("message"))
        result = reply.get("result")
        if not isinstance(result, dict):
            raise TypeError(f"the result is {json.dumps(result)}, not an object")
        return result

    def _keep(self, body: bytes, answer: bytes) -> None:
        self.exchanges.append(
            Exchange(request=body.decode(errors="replace"), answer=answer.decode(errors="replace").strip())
        )
