"""Describes what a socket serves, as the original does: `/info/api.json` and `/info/functions.json`."""

import functools
from typing import Any

import msgspec

from infrakit.rpc import wire
from infrakit.rpc.interfaces import INTERFACES


def api(announced: list[str]) -> bytes:
    """Return every served interface, with an example of each request and response."""
    served = [each for each in INTERFACES if each.announced in announced]
    kinds = [dict(zip(("Name", "Version", "Sub"), (*each.announced.split("/"), ""), strict=True)) for each in served]
    methods = [[_example(method) for method in wire.methods(each)] for each in served]
    interfaces = [kind | {"Methods": examples} for kind, examples in zip(kinds, methods, strict=True)]
    return msgspec.json.encode({"Vendor": None, "Implements": kinds, "Interfaces": interfaces})


def functions() -> bytes:
    """Return the template functions that a plugin exports. InfraKit's plugins export none."""
    return msgspec.json.encode({"base": [], "builtin": []})


def _example(method: wire.Method) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "method": method.wire, "params": _smallest(method.params), "id": "1"}
    fields: dict[str, Any] = {method.interface.address: ""} if method.interface.address else {}
    result = fields | ({method.field: None} if method.field else {})
    return {"Request": request, "Response": {"result": result, "id": "1"}}


@functools.cache
def _smallest(type_: Any) -> Any:
    """Return the smallest JSON value that a type accepts."""
    schema = msgspec.json.schema(type_)
    return _of_schema(schema, schema.get("$defs", {}))


def _of_schema(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _of_schema(schema["anyOf"][0], known)
    if schema.get("type") == "object":
        return {name: _of_schema(each, known) for name, each in schema.get("properties", {}).items()}
    return {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}.get(schema.get("type", ""))
