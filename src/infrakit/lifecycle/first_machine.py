"""The first machine of a cluster that will keep the store by itself, and the first ones again when its quorum is gone.

Nobody leads then, so nobody acts, and this is what an operator starts instead. It begins no call while the store
answers, because then somebody may lead; and it ends as soon as the store does, because then somebody will. Where it
cannot reach the store, replicas on the cluster's machines say so in its place: see `lifecycle.access`.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from infrakit.lifecycle import seed
from infrakit.lifecycle.access import Kept
from infrakit.lifecycle.seed import Choice, Maker, Node
from infrakit.manager.declaration import validate
from infrakit.manager.declaration.validate import Plugins
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.group import Group
from infrakit.spi.values import InstanceSpec

LOOK_S = 0.3
BOOT_S = 10.0  # for one machine to start what it runs, before the next is made


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator has asked for."""

    text: str
    source: str
    who: str
    why: str
    group: str = ""  # the group that keeps the store; empty: the only quorum that is declared
    seed: Choice | None = None  # which machine is the first; None: the first that is declared
    recover: bool = False
    patience_s: float = 120.0  # for the store to answer after each machine


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The first machine as it would be made."""

    group: Group
    node: Node
    spec: InstanceSpec


async def bootstrap(plan: Plan, *, plugins: Plugins, kept: Kept, clock: Clock, tell: Callable[[str], object]) -> int:
    """Return the version of the declaration, once the store answers and holds one.

    Raises what `grow` raises, and `Conflict` if somebody else declares something at the same time.
    """
    groups = await validate.checked(plan.text, plan.source, plugins)
    await grow(plan, groups, plugins=plugins, kept=kept, clock=clock, tell=tell)
    tell(kept.answered)
    version = await kept.version()
    if version:
        tell(f"it holds version {version} of the declaration, which is left as it is")
        return version
    version = await kept.declare(groups, text=plan.text, source=plan.source, who=plan.who, why=plan.why)
    tell(f"version {version} of the declaration is in it")
    return version


async def grow(
    plan: Plan, groups: Sequence[Group], *, plugins: Plugins, kept: Kept, clock: Clock, tell: Callable[[str], object]
) -> None:
    """Make what is needed for the store to answer; nothing, if it does.

    Raises `Refused` if there are machines, or volumes of any but the first, and `recover` is not wanted, what a plugin
    raises, and `Unreachable` if the store does not answer after every machine that could be made.
    """
    if await kept.answers():
        return
    group, flavor = await seed.keeper(groups, plugins, plan.group, only=plan.seed is not None)
    instance = await plugins.instance(group.properties.instance.plugin)
    maker = Maker(group, flavor, instance, clock, tell)
    if plan.recover:
        await _recover(maker, kept, plan.patience_s)
    else:
        await _seed(maker, kept, plan.patience_s, plan.seed or Choice())


async def prepare(plan: Plan, *, plugins: Plugins, clock: Clock) -> Prepared:
    """What `bootstrap` would have made as the first machine, and nothing made. Raises what that does before."""
    groups = await validate.checked(plan.text, plan.source, plugins)
    group, flavor = await seed.keeper(groups, plugins, plan.group, only=plan.seed is not None)
    first = seed.node(group, plan.seed or Choice())
    return Prepared(group=group, node=first, spec=await seed.seed_of(group, flavor, first, clock))


async def _seed(maker: Maker, kept: Kept, patience_s: float, asked: Choice) -> None:
    """From nothing: one machine, as if the group had no other member; the others join when it leads."""
    first = seed.node(maker.group, asked)
    machines = await maker.machines()
    if machines.keys() - {first.slot}:
        raise errors.Refused(
            f"it has machines already ({', '.join(sorted(machines))}), and {kept.silence}",
            where=f"group {maker.group.name}",
            remedy="give them time; if they have lost their quorum for good: infrakit bootstrap --recover",
        )
    if not machines:
        await maker.refuse_beside_others(first)
        try:
            await maker.make_first(first, script=asked.script)
        except errors.Conflict as error:
            if first.slot not in await maker.machines():
                raise
            maker.tell(f"{first}: somebody else was faster ({error})")
    else:
        maker.tell(f"{first}: {machines[first.slot].id} is there already")
    if not await _until_answers(kept, patience_s):
        raise errors.Unreachable(
            f"{first} {'exists' if machines else 'is made'}, and {kept.silence} after {patience_s:g} s",
            where=kept.where,
            remedy="look into its log; the same command waits again; if there were more machines, and their quorum is "
            "lost: infrakit bootstrap --recover",
        )


async def _recover(maker: Maker, kept: Kept, patience_s: float) -> None:
    """Machines that are missing, one after the other, until there are enough of them for a quorum."""
    boot_s = 0.0
    while True:
        bearing = await maker.machines()
        missing = [each for each in maker.nodes if each.slot not in bearing]
        if await _until_answers(kept, min(boot_s, patience_s) if missing else patience_s):
            return
        boot_s = BOOT_S
        if not missing:
            raise errors.Unreachable(
                f"every machine of {maker.group.name} exists, and {kept.silence} after {patience_s:g} s",
                where=kept.where,
                remedy="look into the logs of its members",
            )
        await maker.make(missing[0])


async def _until_answers(kept: Kept, patience_s: float) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    while not await kept.answers():
        if loop.time() >= until:
            return False
        await asyncio.sleep(LOOK_S)
    return True
