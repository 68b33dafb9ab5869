"""The JSON-RPC 2.0 envelope in the original's form: each result is HTTP 200, and the `id` is echoed unchanged."""

from typing import Any

import msgspec

from infrakit.rpc import failures
from infrakit.spi import codec


class Request(msgspec.Struct):
    """A request. `id` is kept as raw bytes; if it is null or absent, the method is executed without a reply."""

    jsonrpc: str = ""
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def is_notification(self) -> bool:
        return bytes(self.id) == b"null"


class Error(msgspec.Struct):
    """An error. Clients of the original read only `message`."""

    code: int
    message: str
    data: Any = None


class Reply(msgspec.Struct, omit_defaults=True):
    """A reply: a result or an error."""

    jsonrpc: str
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Error | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw = msgspec.Raw(b"null")


class ClientReply(msgspec.Struct):
    """A reply as a client reads it."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: "ClientError | None" = None
    id: Any = None


class ClientError(msgspec.Struct):
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")

    def error_data(self) -> failures.ErrorData | None:
        try:
            return codec.decode(self.data, failures.ErrorData)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


def result(request: Request, value: msgspec.Raw) -> bytes:
    return msgspec.json.encode(Reply(jsonrpc="2.0", result=value, id=request.id)) + b"\n"


def failure(request: Request, code: int, message: str, data: Any = None) -> bytes:
    failed = Error(code=code, message=message, data=data)
    return msgspec.json.encode(Reply(jsonrpc="2.0", error=failed, id=request.id)) + b"\n"
