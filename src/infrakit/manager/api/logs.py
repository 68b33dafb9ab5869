"""What instances have written, from the provider that keeps it; of the dead nobody knows which that is."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infrakit.manager.lead.term import Term
from infrakit.spi import errors
from infrakit.spi.instance import Instance
from infrakit.spi.values import InstanceID

T = TypeVar("T")

DEADLINE_S = 30.0


async def from_keeper(term: Term, instance: InstanceID, ask: Callable[[Instance], Awaitable[T] | None], can: str) -> T:
    """What the provider of an instance answers; `ask` gives None for one that cannot do what `can` says.

    Raises `NotFound`, and `Refused` if it cannot.
    """
    owner = next((c for c in term.controllers.values() if instance in c.view.members), None)
    accounts = {c.account.name: c.account for c in term.controllers.values()}
    unknown = () if owner is not None else (errors.NotFound,)
    async with asyncio.timeout(DEADLINE_S):
        for account in [owner.account] if owner is not None else accounts.values():
            question = ask(account.instance)
            if question is not None:
                with contextlib.suppress(*unknown):
                    return await question
    if owner is not None:
        raise errors.Refused(f"this provider cannot {can}", where=instance)
    raise errors.NotFound(
        f"no provider has a log of {instance!r}",
        remedy="see: infrakit instance ls; `infrakit events` has the IDs of those that have terminated",
    )
