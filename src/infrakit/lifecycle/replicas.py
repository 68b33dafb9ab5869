"""A client of several InfraKit replicas, any of which can answer, with failover between them.

It uses one replica for as long as that answers. When it fails, the client connects to all others at once, and uses the
first that answers from then on. Every request made here is safe to repeat: reads, a halt, and a commit that names the
expected version. So a request whose response is lost is retried at the next replica.
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

ANSWER_S = 2.0  # timeout of a request, before another replica is tried
PING_S = 0.5  # timeout of the check whether a replica is alive
NO_ANSWER = (errors.Unreachable, errors.OutcomeUnknown, errors.Throttled, TimeoutError)


class Replicas:
    """An async context manager. On a failover, `changed` is called with the new address, the old one and the reason."""

    def __init__(self, places: Sequence[str], changed: Callable[[str, str, str], object] | None = None) -> None:
        self.places = tuple(dict.fromkeys(places))
        self.at = ""  # the address in use; empty: none
        self.why: dict[str, str] = {}  # by address: the last failure, if it has not answered since
        self._changed = changed
        self._previous = ("", "")  # the address used before, and the reason for leaving it
        self._remote: Any = None
        self._refusal: errors.Refused | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave("")

    async def ask(self, method: str, *, within_s: float = ANSWER_S, **arguments: Any) -> Any:
        """Call a method of `Manager` at one replica and return its result.

        Raises `Unreachable` if no replica answers, `Refused` if access to one is denied, and what the method raises.
        """
        tried: set[str] = set()
        while True:
            if self._remote is None:
                await self._find(tried)
            try:
                async with asyncio.timeout(within_s):
                    return await getattr(self._remote, method)(**arguments)
            except NO_ANSWER as error:
                tried.add(self.at)
                alive = isinstance(error, TimeoutError) and await self._is_alive()
                await self._leave(_error_text(error, within_s))
                if alive:  # the leader that it forwards to did not answer: this is no failure of the replica
                    self._previous = ("", "")

    async def ask_all(self, method: str, *, within_s: float = ANSWER_S) -> list[Any]:
        """Call a method of `Manager` that only reads, at every replica; return the results of those that answer."""

        async def ask(place: str) -> Any:
            found = await self._connect(place)
            if found is None:
                return None
            try:
                async with asyncio.timeout(within_s):
                    return await getattr(found[1], method)()
            except (errors.InfraKitError, TimeoutError):
                return None
            finally:
                await found[1].close()

        answers = await asyncio.gather(*(ask(place) for place in self.places))
        return [each for each in answers if each is not None]

    async def _is_alive(self) -> bool:
        """Whether the replica in use answers `greet`, which needs neither the store nor a leader."""
        try:
            async with asyncio.timeout(PING_S):
                await self._remote.handshake()
        except (errors.InfraKitError, TimeoutError):
            return False
        return True

    async def switch(self) -> None:
        """Switch to another replica, if one answers, because the current one lacks the requested information."""
        before = self.at
        await self._leave("it lacks the information")
        self._previous = ("", "")
        with contextlib.suppress(errors.Unreachable):
            await self._find({before})

    async def _leave(self, why: str) -> None:
        if self._remote is not None:
            self.why[self.at], self._previous = why, (self.at, why)
            remote, self._remote, self.at = self._remote, None, ""
            await remote.close()

    async def _find(self, tried: Iterable[str]) -> None:
        """Connect to all replicas not tried yet, and use the first that answers."""
        candidates = [each for each in self.places if each not in tried]
        for each in candidates:
            _check_access(each)
        self._refusal = None
        attempts = {asyncio.get_running_loop().create_task(self._connect(each)): each for each in candidates}
        try:
            for first in asyncio.as_completed(attempts):
                if (found := await first) is not None:
                    self.at, self._remote = found
                    break
        finally:
            await _close_others(attempts, keep=self._remote)
        if self._remote is None and self._refusal is not None:
            raise self._refusal  # a replica may run there
        if self._remote is None:
            details = "; ".join(f"{each}: {self.why[each]}" for each in self.places if each in self.why)
            raise errors.Unreachable("no replica answers", where=details)
        self.why.pop(self.at, None)
        before, why = self._previous
        if before and before != self.at and self._changed is not None:
            self._changed(self.at, before, why)

    async def _connect(self, place: str) -> tuple[str, Any] | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                return place, await client.connect(Manager, place, place)
        except (errors.InfraKitError, TimeoutError) as error:
            self._refusal = error if isinstance(error, errors.Refused) else self._refusal
            self.why[place] = _error_text(error, ANSWER_S)
            return None


class SelfHosted:
    """The groups of a declaration whose members run replicas, and the addresses of those replicas."""

    def __init__(self, groups: Sequence[GroupID], places: Sequence[str]) -> None:
        self.groups = tuple(groups)  # those whose members run replicas
        self.places = tuple(places)

    @property
    def first(self) -> GroupID:
        """The group of the first machine. Empty with several: the caller names it, or it is the only quorum."""
        return self.groups[0] if len(self.groups) == 1 else GroupID("")


async def self_hosted(groups: Iterable[Group], plugins: Plugins) -> SelfHosted | None:
    """Find the groups that host replicas; None if there are none. Raises `Unreachable`, and what the plugins raise."""
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


async def _close_others(attempts: "dict[asyncio.Task[tuple[str, Any] | None], str]", *, keep: object) -> None:
    """Cancel the other attempts, and close connections that were opened meanwhile."""
    for task in attempts:
        task.cancel()
    for answer in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(answer, tuple) and answer[1] is not keep:
            await answer[1].close()


def _check_access(place: str) -> None:
    """Raise `Refused` for a socket without permission: whether a replica answers there cannot be determined."""
    path = addresses.parse(place)
    if not isinstance(path, Path):
        return
    try:
        denied = path.exists() and not os.access(path, os.W_OK)
    except PermissionError:
        denied = True
    if denied:
        raise errors.Refused(
            "permission denied: whether a replica answers there cannot be determined",
            where=place,
            remedy="run the command as the owner of the socket, or with sudo",
        )


def _error_text(error: BaseException, within_s: float) -> str:
    if isinstance(error, errors.InfraKitError):
        return f"{error.what}; {error.remedy}" if isinstance(error, errors.Refused) and error.remedy else error.what
    return f"no answer within {within_s:g} s"
