"""The joined tree as templates see it: a snapshot of the last value of each plugin.

Templates are rendered in threads. A snapshot is immutable, so they need no lock, and one rendering sees one consistent
state; only `wait` calls back into the loop, which polls until there is a value.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from infrakit.spi import errors, paths

GRACE_S = 5.0  # additional time for the loop to answer, beyond the timeout of the request


class Outcome(NamedTuple):
    """The result of reading a branch: a value, or the error."""

    value: Any = None
    error: Exception | None = None
    at: float = 0.0  # loop time at which the read started

    def read(self, name: str) -> Any:
        """The value. Raises `Unreachable`."""
        if self.error is not None:
            raise unavailable(name, self.error)
        return self.value


NOT_READ = Outcome(error=TimeoutError("it was not read"))


def unavailable(name: str, error: Exception) -> errors.Unreachable:
    """The error for reading from a plugin that does not answer."""
    why = str(error) or "no answer in time"
    remedy = "see: infrakit metadata ls, infrakit plugin ls"
    return errors.Unreachable(f"it is unavailable: {why}", where=f"metadata plugin {name}", remedy=remedy)


class Snapshot:
    """Satisfies `spi.metadata.Facts`."""

    def __init__(
        self,
        branches: Mapping[str, Outcome],
        loop: asyncio.AbstractEventLoop,
        until: Callable[[str, float], Awaitable[object]],
    ) -> None:
        self._branches = branches
        self._loop = loop
        self._until = until

    def keys(self, path: str) -> Sequence[str] | None:
        steps = paths.split(path)
        if not steps:
            return sorted(self._branches)
        if steps[0] not in self._branches:
            return None
        return paths.keys(paths.find(self._branches[steps[0]].read(steps[0]), steps[1:]))

    def get(self, path: str) -> object:
        steps = paths.split(path)
        if not steps:
            return {name: each.value for name, each in self._branches.items() if each.error is None}
        if steps[0] not in self._branches:
            raise paths.missing(steps, 0, sorted(self._branches))
        tree = self._branches[steps[0]].read(steps[0])
        found = paths.find(tree, steps[1:])
        if found is None:
            known = max(end for end in range(1, len(steps)) if end == 1 or paths.find(tree, steps[1:end]) is not None)
            raise paths.missing(steps, known, paths.keys(paths.find(tree, steps[1:known])) or [])
        return found

    def wait(self, path: str, timeout_s: float) -> object:
        try:
            if asyncio.get_running_loop() is self._loop:
                raise errors.Refused("waiting would block the loop that it waits for", where=path)
        except RuntimeError:  # expected: no loop runs in this thread
            pass
        waiting = asyncio.run_coroutine_threadsafe(_awaited(self._until(path, timeout_s)), self._loop)
        try:
            return waiting.result(timeout_s + GRACE_S)
        except TimeoutError:
            waiting.cancel()
            raise errors.Unreachable(f"no answer within {timeout_s:g} s", where=f"metadata {path}") from None


async def _awaited(result: Awaitable[object]) -> object:
    return await result
