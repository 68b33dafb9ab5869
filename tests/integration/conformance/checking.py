"""Runs the conformance kit on plugins at their sockets; and a server that corrupts the replies of a good plugin."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from infrakit import conformance
from infrakit.conformance.check import Outcome, Verdict
from infrakit.rpc.server import Server

SETTLE_S = 0.3

JsonRequest = dict[str, Any]
# A request and its reply -> what is sent instead: bytes, a complete HTTP response, or None to close the connection.
Corrupt = Callable[[JsonRequest, bytes], bytes | web.Response | None]


class CorruptingServer(Server):
    """Serves a good plugin and corrupts its replies."""

    def __init__(self, path: Path, plugin: object, corrupt: Corrupt) -> None:
        super().__init__(path, {".": plugin})
        self._corrupt = corrupt

    async def _call(self, request: web.BaseRequest) -> web.Response:
        answer = await super()._call(request)
        if answer.status != 200:
            return answer
        assert isinstance(answer.body, bytes)
        corrupted = self._corrupt(_parsed(await request.read()), answer.body)
        if corrupted is None:
            assert request.transport is not None
            request.transport.close()
        return corrupted if isinstance(corrupted, web.Response) else web.Response(body=corrupted)


def _parsed(body: bytes) -> JsonRequest:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {"batch": parsed}


async def checked(path: Path, plugin: object, *, name: str = "p", **options: Any) -> list[Outcome]:
    """The outcome of every check of a plugin, served as the type in its name, or as the default type."""
    async with Server(path, {name.partition("/")[2] or ".": plugin}):
        return await outcomes(path, name=name, **options)


async def outcomes(path: Path, *, name: str = "p", **options: Any) -> list[Outcome]:
    """The outcome of every check of a plugin that already listens at the path."""
    return [each async for each in conformance.run(str(path), name, **{"settle_s": SETTLE_S} | options)]


def failed(found: Sequence[Outcome]) -> set[str]:
    return {outcome.name for outcome in found if outcome.verdict is Verdict.FAILED}


def skipped(found: Sequence[Outcome]) -> set[str]:
    return {outcome.name for outcome in found if outcome.verdict is Verdict.SKIPPED}


def capabilities(found: Sequence[Outcome]) -> set[str]:
    return {outcome.name.partition("/")[2] for outcome in found if outcome.verdict is Verdict.PRESENT}
