"""Every call that changes something outside: instances, their tags and attachments, workload, member lists.

Each call passes the same checks at the moment it begins, whichever actor makes it: the authority of the actor is
proven, then checked, and the actor's own `begin` confirms that the call is still wanted. Between these checks and the
first step of the call there is no await. A test finds any such call elsewhere.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from infrakit.gate.authority import Authority, NotBegun
from infrakit.gate.guard import Guard
from infrakit.spi import errors
from infrakit.spi.flavor import Flavor, Members, MembershipChange, Releases
from infrakit.spi.instance import DestroyContext, Instance, Volumes
from infrakit.spi.values import TAG_TOKEN, Allocation, Attachment, Description, InstanceID, InstanceSpec

# Errors after which a call certainly had no effect.
NOTHING_DONE = (errors.Unreachable, errors.Refused, errors.Conflict, errors.InvalidSpec, errors.Throttled)
CALL_DEADLINE_S = 120.0  # the timeout of a call that changes something

Begin = Callable[[], object]
"""Called when a call begins, after the last check. It raises `Outdated` if the call is no longer wanted; once it has
returned, the call may have an effect, and its outcome is unknown until the other side has answered."""


class Vetoed(NotBegun):
    """The guard does not admit a call."""


class Gate:
    """Makes the calls of one actor to plugins, each after the same checks.

    A timeout raises `TimeoutError`: the outcome is unknown.
    `timed` measures calls of a provider, by the name of the method. Bootstrap, recovery and a teardown have no guard:
    the first create what is declared once, and the last destroys everything, as requested.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        guard: Guard | None = None,
        timed: Callable[[str], contextlib.AbstractContextManager[object]] = lambda _call: contextlib.nullcontext(),
    ) -> None:
        self._authority = authority
        self._guard = guard or Guard(unlimited=True)
        self._timed = timed

    async def permit(self, begin: Begin, veto: Callable[[], str] = str) -> None:
        """Return if a call may begin at this moment; `begin` has been called then. Raises `NotBegun`.

        `veto` returns the reason why the guard does not admit it.
        """
        try:
            await self._authority.prove()
            self._authority.check()
            why = veto()
            if not why:
                begin()
        except NotBegun:
            raise
        except Exception as error:
            raise NotBegun.because(error) from error
        if why:
            raise Vetoed(why)

    # -- instances -------------------------------------------------------------------------------------------------

    async def provision(self, provider: Instance, *, spec: InstanceSpec, begin: Begin) -> InstanceID:
        token, now = (spec.tags or {}).get(TAG_TOKEN, ""), asyncio.get_running_loop().time
        await self.permit(begin, lambda: self._guard.refuse_creation(token, now()))
        is_first = self._guard.creating(token, now())
        try:
            async with asyncio.timeout(CALL_DEADLINE_S):
                with self._timed("provision"):
                    return await provider.provision(spec=spec)
        except NOTHING_DONE:
            if is_first:
                self._guard.not_created(token)
            raise

    async def destroy(self, provider: Instance, *, instance: InstanceID, context: DestroyContext, begin: Begin) -> None:
        with self._kept_unless_done(instance):  # from an earlier drain
            await self._begin_destroying(instance, begin, drains=False)
        try:  # after any other error the outcome is unknown: it counts as being destroyed
            async with asyncio.timeout(CALL_DEADLINE_S):
                with self._timed("destroy"):
                    await provider.destroy(instance=instance, context=context)
        except NOTHING_DONE:
            self._guard.not_destroyed(instance)
            raise

    async def _begin_destroying(self, instance: InstanceID, begin: Begin, *, drains: bool = True) -> None:
        now = asyncio.get_running_loop().time
        await self.permit(begin, lambda: self._guard.refuse_destroy(instance, now()))
        self._guard.destroying(instance, now(), drains=drains)

    async def label(self, provider: Instance, *, instance: InstanceID, labels: Mapping[str, str], begin: Begin) -> None:
        await self.permit(begin)
        async with asyncio.timeout(CALL_DEADLINE_S):
            await provider.label(instance=instance, labels=labels)

    async def delete_attachment(self, provider: Volumes, *, attachment: Attachment, begin: Begin) -> None:
        """Delete a volume with its data."""
        await self.permit(begin)
        async with asyncio.timeout(CALL_DEADLINE_S):
            await provider.delete_attachment(attachment=attachment)

    # -- members ---------------------------------------------------------------------------------------------------

    async def drain(
        self, flavor: Flavor, *, properties: msgspec.Raw, instance: Description, timeout_s: float, begin: Begin
    ) -> None:
        """Move the workload away from a member before it is destroyed: from then on it counts as lost."""
        with self._kept_unless_done(instance.id):
            await self._begin_destroying(instance.id, begin)
            async with asyncio.timeout(timeout_s):
                await flavor.drain(properties=properties, instance=instance)

    async def release(
        self,
        flavor: Releases,
        *,
        properties: msgspec.Raw,
        instance: Description,
        allocation: Allocation,
        begin: Begin,
    ) -> None:
        """Remove a member from its cluster before it is destroyed."""
        with self._kept_unless_done(instance.id):
            await self._begin_destroying(instance.id, begin)
            async with asyncio.timeout(CALL_DEADLINE_S):
                await flavor.release(properties=properties, instance=instance, allocation=allocation)

    @contextlib.contextmanager
    def _kept_unless_done(self, instance: InstanceID) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._guard.not_destroyed(instance)
            raise

    async def change_membership(
        self,
        flavor: Members,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Callable[[], Sequence[Description]],
        allocation: Allocation,
        begin: Begin,
    ) -> None:
        """Make one change of the member list; `instances` returns those of the moment at which it begins."""
        await self.permit(begin)
        async with asyncio.timeout(CALL_DEADLINE_S):
            await flavor.change_membership(
                properties=properties, change=change, instances=instances(), allocation=allocation
            )
