"""Polls the flavor for the voters of a quorum, beside the reconcile cycle; an error means that they are unknown."""

import asyncio
from collections.abc import Sequence

import msgspec

from infrakit.group.probers import DEADLINE_S, WAIT_S
from infrakit.spi.flavor import Voter, Voters
from infrakit.spi.values import Allocation, Description

# The list with the loop time in seconds at which it was requested; a text is the reason why it is unknown.
Listed = tuple[float, Sequence[Voter] | str]


class VotersProber:
    """Polls one flavor for the voters of one group."""

    def __init__(self) -> None:
        self._poll: asyncio.Task[Listed] | None = None

    async def result(
        self, flavor: Voters, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Listed | None:
        """Return the list, or None while the poll is in progress; waits at most `WAIT_S`. Starts a poll if none is."""
        if self._poll is None:
            poll = _listed(flavor, properties, instances, allocation)
            self._poll = asyncio.get_running_loop().create_task(poll)
            await asyncio.wait({self._poll}, timeout=WAIT_S)
        if not self._poll.done():
            return None
        result, self._poll = self._poll.result(), None
        return result

    async def close(self) -> None:
        """Cancel the poll in progress."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait({self._poll})


async def _listed(
    flavor: Voters, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
) -> Listed:
    requested_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(DEADLINE_S):
            voters = await flavor.voters(properties=properties, instances=instances, allocation=allocation)
    except TimeoutError:
        return requested_at, f"the flavor did not answer within {DEADLINE_S:.0f} s"
    except Exception as error:
        return requested_at, f"the flavor failed: {error}"
    if not _is_valid(voters):
        return requested_at, f"the flavor failed: its voters are not a sequence of voters, but {voters!r}"
    return requested_at, voters


def _is_valid(voters: object) -> bool:
    return isinstance(voters, Sequence) and all(isinstance(each, Voter) for each in voters)
