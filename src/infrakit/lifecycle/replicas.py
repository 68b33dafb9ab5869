"""Replicas of InfraKit as somebody outside sees them: several addresses, of which any one that answers will do.

One is asked for as long as it answers. When it does not, all others are greeted at once, and the first that answers is
asked from then on. What is asked here may be asked twice: questions, a halt, and a commit that names the version that
was seen. So an order whose answer is lost goes to the next replica as well.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infrakit.manager.declaration.validate import Plugins
from infrakit.rpc import address as addresses
from infrakit.rpc import client
from infrakit.spi import errors
from infrakit.spi.flavor import Hosts
from infrakit.spi.group import Group
from infrakit.spi.manager import Manager
from infrakit.spi.values import GroupID

ANSWER_S = 2.0  # for a replica to answer a question, before another is asked
GREETING_S = 0.5
SILENT = (errors.Unreachable, errors.OutcomeUnknown, errors.Throttled, TimeoutError)


class Replicas:
    """An async context manager. `changed` is told whom it asks now, and whom it did before and why not any more."""

    def __init__(self, places: Sequence[str], changed: Callable[[str, str, str], object] | None = None) -> None:
        self.places = tuple(dict.fromkeys(places))
        self.at = ""  # who is asked
        self.why: dict[str, str] = {}  # why those do not answer that did not when they were asked last
        self._changed = changed
        self._left = ("", "")  # whom it asked last, and why not any more
        self._remote: Any = None
        self._refusal: errors.Refused | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave("")

    async def ask(self, method: str, *, within_s: float = ANSWER_S, **arguments: Any) -> Any:
        """What a method of `Manager` answers at one of them.

        Raises `Unreachable` if it answers nowhere, `Refused` where we may not ask, and what the method raises.
        """
        tried: set[str] = set()
        while True:
            if self._remote is None:
                await self._find(tried)
            try:
                async with asyncio.timeout(within_s):
                    return await getattr(self._remote, method)(**arguments)
            except SILENT as error:
                tried.add(self.at)
                alive = isinstance(error, TimeoutError) and await self._is_alive()
                await self._leave(_words(error, within_s))
                if alive:  # the leader that it asks may not: that it does not answer any more would not be true
                    self._left = ("", "")

    async def _is_alive(self) -> bool:
        """Whether the one that is asked says at least who it is, for which it asks nobody."""
        try:
            async with asyncio.timeout(GREETING_S):
                await self._remote.greet()
        except (errors.InfraKitError, TimeoutError):
            return False
        return True

    async def turn(self) -> None:
        """Ask another one from now on, if one answers: this one answers, and cannot tell."""
        before = self.at
        await self._leave("it cannot tell")
        self._left = ("", "")
        with contextlib.suppress(errors.Unreachable):
            await self._find({before})

    async def _leave(self, why: str) -> None:
        if self._remote is not None:
            self.why[self.at], self._left = why, (self.at, why)
            remote, self._remote, self.at = self._remote, None, ""
            await remote.close()

    async def _find(self, tried: Iterable[str]) -> None:
        """Greet all that are left, and keep the first that answers."""
        left = [each for each in self.places if each not in tried]
        for each in left:
            _check_access(each)
        self._refusal = None
        greetings = {asyncio.get_running_loop().create_task(self._connect(each)): each for each in left}
        try:
            for first in asyncio.as_completed(greetings):
                if (found := await first) is not None:
                    self.at, self._remote = found
                    break
        finally:
            await _close_others(greetings, keep=self._remote)
        if self._remote is None and self._refusal is not None:
            raise self._refusal  # somebody lives there
        if self._remote is None:
            details = "; ".join(f"{each}: {self.why[each]}" for each in self.places if each in self.why)
            raise errors.Unreachable("no replica answers", where=details)
        self.why.pop(self.at, None)
        before, why = self._left
        if before and before != self.at and self._changed is not None:
            self._changed(self.at, before, why)

    async def _connect(self, place: str) -> tuple[str, Any] | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                return place, await client.connect(Manager, place, place)
        except (errors.InfraKitError, TimeoutError) as error:
            self._refusal = error if isinstance(error, errors.Refused) else self._refusal
            self.why[place] = _words(error, ANSWER_S)
            return None


class SelfHosted:
    """What a declaration says of the replicas on its own machines."""

    def __init__(self, groups: Sequence[GroupID], places: Sequence[str]) -> None:
        self.groups = tuple(groups)  # on whose members they run
        self.places = tuple(places)

    @property
    def first(self) -> GroupID:
        """The one whose member is made first; with several, whoever asks has to say, or it is the only quorum."""
        return self.groups[0] if len(self.groups) == 1 else GroupID("")


async def self_hosted(groups: Iterable[Group], plugins: Plugins) -> SelfHosted | None:
    """None: no replicas run on what these groups declare. Raises `Unreachable`, and what the plugins raise."""
    names: list[GroupID] = []
    places: list[str] = []
    for group in groups:
        flavor, declared = group.properties.flavor, group.properties.allocation
        plugin = await plugins.flavor(flavor.plugin)
        if not isinstance(plugin, Hosts):
            continue
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await plugin.replicas(properties=flavor.properties, allocation=declared.to_wire())
        except TimeoutError:
            raise errors.Unreachable(f"no answer within {ANSWER_S:g} s", where=f"plugin {flavor.plugin}") from None
        if found:
            names.append(group.name)
            places.extend(found)
    return SelfHosted(names, places) if names else None


async def _close_others(greetings: "dict[asyncio.Task[tuple[str, Any] | None], str]", *, keep: object) -> None:
    """Nobody waits for the others any more, and those that have come meanwhile are closed."""
    for task in greetings:
        task.cancel()
    for answer in await asyncio.gather(*greetings, return_exceptions=True):
        if isinstance(answer, tuple) and answer[1] is not keep:
            await answer[1].close()


def _check_access(place: str) -> None:
    """A socket that is there and may not be opened says nothing about whether somebody lives. Raises `Refused`."""
    path = addresses.parse(place)
    if not isinstance(path, Path):
        return
    try:
        denied = path.exists() and not os.access(path, os.W_OK)
    except PermissionError:
        denied = True
    if denied:
        raise errors.Refused(
            "it belongs to another user, so that nobody here can tell whether a replica answers",
            where=place,
            remedy="say it as that user, or with sudo",
        )


def _words(error: BaseException, within_s: float) -> str:
    if isinstance(error, errors.InfraKitError):
        return f"{error.what}; {error.remedy}" if isinstance(error, errors.Refused) and error.remedy else error.what
    return f"no answer within {within_s:g} s"
