"""Logs of instances, from their provider; for a terminated instance, all providers are queried."""

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


async def from_provider(
    term: Term, instance: InstanceID, ask: Callable[[Instance], Awaitable[T] | None], can: str
) -> T:
    """Query the provider of an instance; `ask` returns None for a provider that lacks the ability `can`.

    Raises `NotFound`, and `Refused` if the provider lacks the ability.
    """
    owner = next((c for c in term.controllers.values() if instance in c.view.members), None)
    accounts = {c.account.name: c.account for c in term.controllers.values()}
    unknown = () if owner is not None else (errors.NotFound,)
    async with asyncio.timeout(DEADLINE_S):
        for account in [owner.account] if owner is not None else accounts.values():
            request = ask(account.instance)
            if request is not None:
                with contextlib.suppress(*unknown):
                    return await request
    if owner is not None:
        raise errors.Refused(f"this provider cannot {can}", where=instance)
    raise errors.NotFound(
        f"no provider has a log of {instance!r}",
        remedy="see: infrakit instance ls; `infrakit events` has the IDs of those that have terminated",
    )
