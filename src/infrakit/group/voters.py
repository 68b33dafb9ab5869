"""Polls the flavor for the voters of a quorum, beside the reconcile cycle; an error means that they are unknown."""

import asyncio
from collections.abc import Sequence

import msgspec

from infrakit.group.probers import DEADLINE_S, Poll, why
from infrakit.spi import errors
from infrakit.spi.flavor import Voter, Voters
from infrakit.spi.values import Allocation, Description

# The list with the loop time in seconds at which it was requested; a text is the reason why it is unknown.
Listed = tuple[float, Sequence[Voter] | str]


class VotersProber(Poll[Listed]):
    """Polls one flavor for the voters of one group."""

    def start(
        self, flavor: Voters, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> None:
        """Start a poll unless one is in progress."""
        self.begin(lambda: _listed(flavor, properties, instances, allocation))


async def _listed(
    flavor: Voters, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
) -> Listed:
    requested_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(DEADLINE_S):
            voters = await flavor.voters(properties=properties, instances=instances, allocation=allocation)
        _check(voters)
    except Exception as error:
        return requested_at, why(error)
    return requested_at, voters


def _check(voters: object) -> None:
    """Raise `PluginError` unless this is a sequence of voters."""
    if not isinstance(voters, Sequence) or not all(isinstance(each, Voter) for each in voters):
        raise errors.PluginError(f"its voters are not a sequence of voters, but {voters!r}")
