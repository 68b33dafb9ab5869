"""Plugins at a socket of their own, checked by the kit; and servers that spoil what a good plugin answers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from infrakit import conformance
from infrakit.conformance.check import Outcome, Verdict
from infrakit.rpc.server import Server

SETTLE_S = 0.3

Asked = dict[str, Any]
# What is asked and answered -> what is sent instead: bytes, a whole HTTP answer, or nothing and an end of the line.
Spoil = Callable[[Asked, bytes], bytes | web.Response | None]


class Spoiling(Server):
    """Serves a good plugin badly."""

    def __init__(self, path: Path, plugin: object, spoil: Spoil) -> None:
        super().__init__(path, {".": plugin})
        self._spoil = spoil

    async def _call(self, request: web.BaseRequest) -> web.Response:
        answer = await super()._call(request)
        if answer.status != 200:
            return answer
        assert isinstance(answer.body, bytes)
        spoilt = self._spoil(_asked(await request.read()), answer.body)
        if spoilt is None:
            assert request.transport is not None
            request.transport.close()
        return spoilt if isinstance(spoilt, web.Response) else web.Response(body=spoilt)


def _asked(body: bytes) -> Asked:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return asked if isinstance(asked, dict) else {"batch": asked}


async def checked(path: Path, plugin: object, *, name: str = "p", **more: Any) -> list[Outcome]:
    """Every check of an object, as the type that is in the name, or as the default."""
    async with Server(path, {name.partition("/")[2] or ".": plugin}):
        return await outcomes(path, name=name, **more)


async def outcomes(path: Path, *, name: str = "p", **more: Any) -> list[Outcome]:
    """Every check of what listens there already."""
    return [each async for each in conformance.run(str(path), name, **{"settle_s": SETTLE_S} | more)]


def failed(found: Sequence[Outcome]) -> set[str]:
    return {outcome.name for outcome in found if outcome.verdict is Verdict.FAILED}


def skipped(found: Sequence[Outcome]) -> set[str]:
    return {outcome.name for outcome in found if outcome.verdict is Verdict.SKIPPED}


def capabilities(found: Sequence[Outcome]) -> set[str]:
    return {outcome.name.partition("/")[2] for outcome in found if outcome.verdict is Verdict.PRESENT}
