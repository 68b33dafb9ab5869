"""Send a request to a dispatcher, and return its reply."""

import json
from typing import Any

from infrakit.rpc.dispatch import Dispatcher


async def ask(dispatcher: Dispatcher, method: str, params: Any = None) -> dict[str, Any]:
    """The whole reply of a well-formed request."""
    request = {"jsonrpc": "2.0", "method": method, "params": {} if params is None else params, "id": 7}
    reply: dict[str, Any] = json.loads(await dispatcher.answer(json.dumps(request).encode()))
    assert (reply.pop("jsonrpc"), reply.pop("id")) == ("2.0", 7)
    return reply
