"""The first machine of a cluster that will keep the store by itself, and the first ones again when its quorum is gone.

Nobody leads then, so nobody acts, and this is what an operator starts instead. It begins no call while the store
answers, because then somebody may lead; and it ends as soon as the store does, because then somebody will. Where it
cannot reach the store, replicas on the cluster's machines say so in its place: see `lifecycle.access`.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from infrakit.lifecycle import seed
from infrakit.lifecycle.access import DeclarationAccess
from infrakit.lifecycle.seed import Node, Provisioner, SeedChoice
from infrakit.manager.declaration import validate
from infrakit.manager.declaration.validate import Plugins
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.group import Group
from infrakit.spi.values import InstanceSpec

POLL_S = 0.3
BOOT_S = 10.0  # for one machine to start what it runs, before the next is made


class BootstrapRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator has asked for."""

    text: str
    source: str
    who: str
    why: str
    group: str = ""  # the group that keeps the store; empty: the only quorum that is declared
    seed: SeedChoice | None = None  # which machine is the first; None: the first that is declared
    recover: bool = False
    patience_s: float = 120.0  # for the store to answer after each machine


class PreparedMachine(msgspec.Struct, frozen=True, kw_only=True):
    """The first machine as it would be made."""

    group: Group
    node: Node
    spec: InstanceSpec


async def bootstrap(
    request: BootstrapRequest,
    *,
    plugins: Plugins,
    access: DeclarationAccess,
    clock: Clock,
    report: Callable[[str], object],
) -> int:
    """Return the version of the declaration, once the store answers and holds one.

    Raises what `grow` raises, and `Conflict` if somebody else declares something at the same time.
    """
    groups = await validate.checked(request.text, request.source, plugins)
    await grow(request, groups, plugins=plugins, access=access, clock=clock, report=report)
    report(access.answered)
    version = await access.version()
    if version:
        report(f"it holds version {version} of the declaration, which is left as it is")
        return version
    version = await access.declare(groups, text=request.text, source=request.source, who=request.who, why=request.why)
    report(f"version {version} of the declaration is in it")
    return version


async def grow(
    request: BootstrapRequest,
    groups: Sequence[Group],
    *,
    plugins: Plugins,
    access: DeclarationAccess,
    clock: Clock,
    report: Callable[[str], object],
) -> None:
    """Make what is needed for the store to answer; nothing, if it does.

    Raises `Refused` if there are machines, or volumes of any but the first, and `recover` is not wanted, what a plugin
    raises, and `Unreachable` if the store does not answer after every machine that could be made.
    """
    if await access.answers():
        return
    group, flavor = await seed.store_group(groups, plugins, request.group, only=request.seed is not None)
    instance = await plugins.instance(group.properties.instance.plugin)
    provisioner = Provisioner(group, flavor, instance, clock, report)
    if request.recover:
        await _recover(provisioner, access, request.patience_s)
    else:
        await _create_first_machine(provisioner, access, request.patience_s, request.seed or SeedChoice())


async def prepare(request: BootstrapRequest, *, plugins: Plugins, clock: Clock) -> PreparedMachine:
    """What `bootstrap` would have made as the first machine, and nothing made. Raises what that does before."""
    groups = await validate.checked(request.text, request.source, plugins)
    group, flavor = await seed.store_group(groups, plugins, request.group, only=request.seed is not None)
    first = seed.node(group, request.seed or SeedChoice())
    return PreparedMachine(group=group, node=first, spec=await seed.seed_of(group, flavor, first, clock))


async def _create_first_machine(
    provisioner: Provisioner, access: DeclarationAccess, patience_s: float, asked: SeedChoice
) -> None:
    """From nothing: one machine, as if the group had no other member; the others join when it leads."""
    first = seed.node(provisioner.group, asked)
    machines = await provisioner.machines()
    if machines.keys() - {first.slot}:
        raise errors.Refused(
            f"it has machines already ({', '.join(sorted(machines))}), and {access.silence}",
            where=f"group {provisioner.group.name}",
            remedy="give them time; if they have lost their quorum for good: infrakit bootstrap --recover",
        )
    if not machines:
        await provisioner.refuse_beside_others(first)
        try:
            await provisioner.create_first(first, script=asked.script)
        except errors.Conflict as error:
            if first.slot not in await provisioner.machines():
                raise
            provisioner.report(f"{first}: somebody else was faster ({error})")
    else:
        provisioner.report(f"{first}: {machines[first.slot].id} is there already")
    if not await _until_answers(access, patience_s):
        raise errors.Unreachable(
            f"{first} {'exists' if machines else 'is made'}, and {access.silence} after {patience_s:g} s",
            where=access.where,
            remedy="look into its log; the same command waits again; if there were more machines, and their quorum is "
            "lost: infrakit bootstrap --recover",
        )


async def _recover(provisioner: Provisioner, access: DeclarationAccess, patience_s: float) -> None:
    """Machines that are missing, one after the other, until there are enough of them for a quorum."""
    boot_s = 0.0
    while True:
        existing = await provisioner.machines()
        missing = [each for each in provisioner.nodes if each.slot not in existing]
        if await _until_answers(access, min(boot_s, patience_s) if missing else patience_s):
            return
        boot_s = BOOT_S
        if not missing:
            raise errors.Unreachable(
                f"every machine of {provisioner.group.name} exists, and {access.silence} after {patience_s:g} s",
                where=access.where,
                remedy="look into the logs of its members",
            )
        await provisioner.create(missing[0])


async def _until_answers(access: DeclarationAccess, patience_s: float) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    while not await access.answers():
        if loop.time() >= until:
            return False
        await asyncio.sleep(POLL_S)
    return True
