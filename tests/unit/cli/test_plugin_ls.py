"""`infrakit plugin ls` with plugins at real sockets."""

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from infrakit.rpc import discovery
from tests.unit.cli.command_line import CommandLine

HELLO = b'{"jsonrpc":"2.0","result":{"Objects":{"Instance/0.6.1":[{"Name":"."}]}},"id":1}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(HELLO), HELLO)


async def test_all_plugins_are_asked_at_once(cli: CommandLine, home: Path) -> None:
    """Each answers only after all others have been asked."""
    (home / "plugins").mkdir()
    asked = asyncio.Barrier(3)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        await asked.wait()
        writer.write(RESPONSE)
        await writer.drain()
        writer.close()

    servers = [await asyncio.start_unix_server(answer, home / "plugins" / name) for name in ("a", "b", "c")]
    listed = await cli("plugin", "ls", "-o", "json")
    for server in servers:
        server.close()
    states = {each["Name"]: each["State"] for each in json.loads(listed.out)}
    assert [states.pop(name) for name in ("a", "b", "c")] == ["running"] * 3
    assert set(states.values()) == {"available"}


def test_a_defect_while_asking_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    ls: Any = importlib.import_module("infrakit.cli.commands.plugin.ls")

    def served(found: discovery.Found) -> list[object]:
        raise ZeroDivisionError(found.name)

    monkeypatch.setattr(ls, "_served", served)
    with pytest.raises(ZeroDivisionError, match="web"):
        list(ls._running([discovery.Found("web", "/web")]))
