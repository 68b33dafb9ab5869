"""The first machine of a cluster that will keep the store by itself, and the first ones again when its quorum is gone.

Nobody leads then, so nobody acts, and this is what an operator starts instead. It begins no call while the store
answers, because then somebody may lead; and it ends as soon as the store does, because then somebody will.
"""

import asyncio
import os
from collections.abc import Callable, Sequence

import msgspec

from infrakit.group.calls import CALL_DEADLINE_S
from infrakit.group.prepare import prepared
from infrakit.manager import orders, validate
from infrakit.manager.declaration import Declaration
from infrakit.manager.validate import Plugins
from infrakit.spec import hash as hashes
from infrakit.spi import errors, values
from infrakit.spi.clock import Clock
from infrakit.spi.event import timestamp
from infrakit.spi.flavor import Flavor, Quorum
from infrakit.spi.group import Group
from infrakit.spi.instance import Instance
from infrakit.spi.store import Store
from infrakit.spi.values import Description, LogicalID, State

ANSWER_S = 2.0  # a store that has no quorum does not answer; one that has does so within this
LOOK_S = 0.3
BOOT_S = 10.0  # for one machine to start what it runs, before the next is made
LIST_DEADLINE_S = 60.0
GONE = (State.STOPPING, State.TERMINATED, State.FINISHED)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator has asked for."""

    text: str
    source: str
    who: str
    why: str
    group: str = ""  # the group that keeps the store; empty: the only quorum that is declared
    recover: bool = False
    patience_s: float = 120.0  # for the store to answer after each machine


async def bootstrap(plan: Plan, *, plugins: Plugins, store: Store, clock: Clock, tell: Callable[[str], object]) -> int:
    """Return the version of the declaration, once the store answers and holds one.

    Raises `InvalidSpec`, `Refused` if there are machines and `recover` is not wanted, what a plugin raises, and
    `Unreachable` if the store does not answer after every machine that could be made.
    """
    groups = await validate.checked(plan.text, plan.source, plugins)
    if not await answers(store):
        group, flavor = await _keeper(groups, plugins, plan.group)
        instance = await plugins.instance(group.properties.instance.plugin)
        maker = Maker(group, flavor, instance, clock, tell)
        await (_recover if plan.recover else _seed)(maker, store, plan.patience_s)
    tell("the store answers")
    return await _declare(Declaration(store, clock), groups, plan, tell)


async def _seed(maker: "Maker", store: Store, patience_s: float) -> None:
    """From nothing: one machine, as if the group had no other member; the others join when it leads."""
    first = maker.logical_ids[0]
    machines = await maker.machines()
    if any(each.logical_id != first for each in machines):
        listed = ", ".join(str(each.logical_id or each.id) for each in machines)
        raise errors.Refused(
            f"it has machines already ({listed}), and the store does not answer",
            where=f"group {maker.group.name}",
            remedy="give them time; if they have lost their quorum for good: infrakit bootstrap --recover",
        )
    if not machines:
        await maker.make(first, alone=True)
    if not await _until_answers(store, patience_s):
        raise errors.Unreachable(
            f"{first} {'exists' if machines else 'is made'}, and the store does not answer after {patience_s:g} s",
            where="store",
            remedy="look into its log; the same command waits again; if there were more machines, and their quorum is "
            "lost: infrakit bootstrap --recover",
        )


async def _recover(maker: "Maker", store: Store, patience_s: float) -> None:
    """Machines that are missing, one after the other, until there are enough of them for a quorum."""
    boot_s = 0.0
    while True:
        bearing = {each.logical_id for each in await maker.machines()}
        missing = [each for each in maker.logical_ids if each not in bearing]
        if await _until_answers(store, min(boot_s, patience_s) if missing else patience_s):
            return
        boot_s = BOOT_S
        if not missing:
            raise errors.Unreachable(
                f"every machine of {maker.group.name} exists, and the store does not answer after {patience_s:g} s",
                where="store",
                remedy="look into the logs of its members",
            )
        await maker.make(missing[0], alone=False)


async def answers(store: Store) -> bool:
    """Whether it can be read now. With its quorum gone, it cannot: reads are linearizable."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await store.read(name="declaration")
    except (errors.Unreachable, errors.OutcomeUnknown, errors.Throttled, TimeoutError):
        return False
    return True


async def _until_answers(store: Store, patience_s: float) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    while not await answers(store):
        if loop.time() >= until:
            return False
        await asyncio.sleep(LOOK_S)
    return True


async def _keeper(groups: Sequence[Group], plugins: Plugins, name: str) -> tuple[Group, Flavor]:
    """The group whose members keep the store. Raises `Refused`."""
    found: list[tuple[Group, Flavor]] = []
    for group in groups:
        flavor = await plugins.flavor(group.properties.flavor.plugin)
        if group.name == name:
            return group, flavor
        if not name and isinstance(flavor, Quorum):
            properties = group.properties.flavor.properties
            if group.properties.allocation.logical_ids and await flavor.is_quorum(properties=properties):
                found.append((group, flavor))
    if len(found) == 1:
        return found[0]
    names = ", ".join(group.name for group in groups)
    what = f"there is no group {name!r}" if name else f"{len(found)} groups are a quorum"
    raise errors.Refused(what, where="bootstrap", remedy=f"say which one keeps the store: --group, of {names}")


async def _declare(
    declaration: Declaration, groups: tuple[Group, ...], plan: Plan, tell: Callable[[str], object]
) -> int:
    """Commit what is declared, unless something is declared there already."""
    await declaration.load()
    if declaration.version:
        tell(f"it holds version {declaration.version} of the declaration, which is left as it is")
        return declaration.version
    change = orders.declare(groups, plan.source)
    committed = await declaration.change(change, what="bootstrap", who=plan.who, why=plan.why, expected=0)
    tell(f"version {committed.version} of the declaration is in it")
    return committed.version


class Maker:
    """Makes machines of one group of pets."""

    def __init__(
        self, group: Group, flavor: Flavor, instance: Instance, clock: Clock, tell: Callable[[str], object]
    ) -> None:
        self.group = group
        self.logical_ids: tuple[LogicalID, ...] = group.properties.allocation.logical_ids or ()
        self._flavor = flavor
        self._instance = instance
        self._clock = clock
        self._tell = tell

    async def machines(self) -> list[Description]:
        """Those that exist, by a complete listing."""
        async with asyncio.timeout(LIST_DEADLINE_S):
            listed = await self._instance.describe_instances(tags={values.TAG_GROUP: self.group.name})
        return [each for each in listed if each.state not in GONE]

    async def make(self, logical_id: LogicalID, *, alone: bool) -> None:
        """One machine; `alone`: as the only member of its group. What is in the way is told by the provider."""
        group = self._alone(logical_id) if alone else self.group
        properties = self.group.properties
        spec = await prepared(
            group,
            self._flavor,
            slot=logical_id,
            logical_id=logical_id,
            sequence=self.logical_ids.index(logical_id) + 1,
            version=hashes.of(properties.instance, properties.flavor),
            token=f"bootstrap/{self.group.name}/{logical_id}/{os.urandom(4).hex()}",
            created=timestamp(self._clock.now()),
        )
        async with asyncio.timeout(CALL_DEADLINE_S):
            made = await self._instance.provision(spec=spec)
        self._tell(f"{logical_id}: {made} is made{', the first of its group' if alone else ''}")

    def _alone(self, logical_id: LogicalID) -> Group:
        properties = self.group.properties
        allocation = msgspec.structs.replace(properties.allocation, logical_ids=(logical_id,))
        return msgspec.structs.replace(
            self.group, properties=msgspec.structs.replace(properties, allocation=allocation)
        )
