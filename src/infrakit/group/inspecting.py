"""Inspects instances one by one, some at once, in a time that never delays a cycle of the controller for long."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from infrakit.spi import errors
from infrakit.spi.instance import Inspects
from infrakit.spi.values import Description, InstanceID

DEADLINE_S = 20.0  # of one
ALL_DEADLINE_S = 60.0  # of all in one cycle: a provider that hangs must not stall the controller
AT_ONCE_MAX = 32


async def inspect_each(
    provider: Inspects, instances: Sequence[InstanceID], found: Callable[[InstanceID, Description | None], None]
) -> None:
    """Inspect these, and report what the provider knows of each. Those without an answer are not reported."""
    limit = asyncio.Semaphore(AT_ONCE_MAX)

    async def inspect(instance: InstanceID) -> None:
        async with limit:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    description = checked(await provider.inspect(instance=instance), instance)
            except Exception:  # whichever it is, its state is unknown: the instance still holds its slot
                return
        found(instance, description)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ALL_DEADLINE_S), asyncio.TaskGroup() as tasks:
            for instance in instances:
                tasks.create_task(inspect(instance))


def checked(answer: object, instance: InstanceID) -> Description | None:
    """Return the answer of an inspection. Raises `PluginError` unless it is None or describes that instance."""
    if answer is None:
        return None
    if not isinstance(answer, Description):
        raise errors.PluginError(f"its inspection of {instance} returned {type(answer).__name__}")
    if answer.id != instance:
        raise errors.PluginError(f"its inspection of {instance} described {answer.id or 'an instance without an ID'}")
    return answer
