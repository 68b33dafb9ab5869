"""Create the first machine of a cluster that hosts its own store, and recover such a cluster from a lost quorum.

In both cases no replica leads, so no controller acts, and the operator runs this instead. It makes no call while the
store answers, because then a replica may lead; and it returns as soon as the store answers, because then one will. If
this machine cannot reach the store, the replicas on the cluster's machines are queried instead: see `lifecycle.access`.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from infrakit.gate.authority import Outdated, StoreSilent
from infrakit.gate.gate import Gate
from infrakit.lifecycle import seed
from infrakit.lifecycle.access import DeclarationAccess
from infrakit.lifecycle.request import DocumentRequest
from infrakit.lifecycle.seed import Node, Provisioner, SeedChoice
from infrakit.manager.declaration import validate
from infrakit.manager.declaration.validate import Plugins
from infrakit.manager.lead.last_read import LastRead
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.event import to_the_second
from infrakit.spi.group import Group
from infrakit.spi.values import GroupID, InstanceSpec

POLL_S = 0.3
BOOT_S = 10.0  # time for one machine to boot, before the next one is created


class BootstrapRequest(DocumentRequest, frozen=True, kw_only=True):
    """How the first machine of this document's cluster is created."""

    group: str = ""  # the group that hosts the store; empty: the only declared quorum
    seed: SeedChoice | None = None  # which machine is the first; None: the first declared one
    recover: bool = False
    despite_halt: bool = False  # the operator knows that the last declaration that was read here is halted
    timeout_s: float = 120.0  # for the store to answer after each machine


class PreparedMachine(msgspec.Struct, frozen=True, kw_only=True):
    """The first machine as it would be created."""

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
    last: LastRead | None = None,
) -> int:
    """Make the store available and declare; return the version of the declaration, also of one that existed before.

    `last` is what a replica on this machine has read from the store before. Raises what `ensure_store` raises, and
    `Conflict` if another user commits a declaration at the same time.
    """
    groups = await validate.checked(request.text, request.source, plugins)
    adopts = await ensure_store(request, groups, plugins=plugins, access=access, clock=clock, report=report, last=last)
    report(access.answered)
    version = await access.version()
    if version and adopts:
        version = await access.adopt(adopts, who=request.who, why=request.why)
    if version:
        report(f"it holds version {version} of the declaration, which is left unchanged")
        return version
    version = await access.declare(
        groups, text=request.text, source=request.source, who=request.who, why=request.why, adopts=adopts
    )
    report(f"committed: version {version} of the declaration")
    return version


async def ensure_store(
    request: BootstrapRequest,
    groups: Sequence[Group],
    *,
    plugins: Plugins,
    access: DeclarationAccess,
    clock: Clock,
    report: Callable[[str], object],
    last: LastRead | None = None,
) -> str:
    """Create the machines that the store needs to answer; none, if it answers already.

    If it answers and nothing is declared, an earlier command may have created its machine and was interrupted then.
    Returns the cluster that their tokens name and the store has to adopt; empty if there is none. Raises `Refused` if
    machines exist, or volumes of any but the first, and `recover` is not set; what a plugin raises; and `Unreachable`
    if the store does not answer after every possible machine was created.
    """
    answers = await access.answers()
    if answers and await access.version():
        return ""
    try:
        group, flavor = await seed.store_group(groups, plugins, request.group, only=request.seed is not None)
    except errors.Refused:
        if answers:
            return ""  # it is not one that this document's machines host
        raise
    instance = await plugins.instance(group.properties.instance.plugin)
    halted = _halted(group.name, last) if last is not None and not request.despite_halt else None
    gate = Gate(StoreSilent(access.answers, halted))
    provisioner = Provisioner(group, flavor, instance, gate=gate, clock=clock, report=report)
    try:
        if answers:
            provisioner.exist((await provisioner.machines()).values())
        elif request.recover:
            await _recover(provisioner, access, request.timeout_s)
        else:
            await _create_first_machine(provisioner, access, request.timeout_s, request.seed or SeedChoice())
    except Outdated as outdated:  # another process was faster, or the quorum is back
        report(str(outdated))
    return provisioner.adopts


def _halted(group: GroupID, last: LastRead) -> errors.Halted | None:
    """The error for a halt of the group that was in force when the store was last read here; None if there was none."""
    declared = last.declaration
    if group not in declared.groups:
        return None  # of another cluster
    halt = declared.halt or declared.orders_of(group).halt
    if halt is None:
        return None
    return errors.Halted(
        f"{'everything' if declared.halt else group} is halted by {halt.who} ({halt.why}), as the store was last "
        f"read here at {to_the_second(last.at)}; it does not answer now",
        where=f"group {group}",
        remedy="to create machines nevertheless: infrakit bootstrap FILE --despite-halt; the halt stays stored",
    )


async def prepare(request: BootstrapRequest, *, plugins: Plugins, clock: Clock) -> PreparedMachine:
    """Prepare the first machine without creating it. Raises what `bootstrap` raises before it creates one."""
    groups = await validate.checked(request.text, request.source, plugins)
    group, flavor = await seed.store_group(groups, plugins, request.group, only=request.seed is not None)
    first = seed.node(group, request.seed or SeedChoice())
    return PreparedMachine(group=group, node=first, spec=await seed.seed_of(group, flavor, first, clock))


async def _create_first_machine(
    provisioner: Provisioner, access: DeclarationAccess, timeout_s: float, choice: SeedChoice
) -> None:
    """Start from nothing: create one machine, prepared as its group's only member; the others join once it leads."""
    first = seed.node(provisioner.group, choice)
    machines = await provisioner.machines()
    if machines.keys() - {first.slot}:
        raise errors.Refused(
            f"machines exist already ({', '.join(sorted(machines))}), and {access.no_answer}",
            where=f"group {provisioner.group.name}",
            remedy="wait for them to start; if their quorum is permanently lost: infrakit bootstrap --recover",
        )
    if not machines:
        await provisioner.refuse_existing_data(first)
        try:
            await provisioner.create_first(first, script=choice.script)
        except errors.Conflict as error:
            found = (await provisioner.machines()).get(first.slot)
            if found is None:
                raise
            provisioner.exist([found])
            provisioner.report(f"{first}: another process created it first ({error})")
    else:
        provisioner.exist(machines.values())
        provisioner.report(f"{first}: {machines[first.slot].id} exists already")
    if not await _until_answers(access, timeout_s):
        raise errors.Unreachable(
            f"{first} {'exists' if machines else 'is created'}, and {access.no_answer} after {timeout_s:g} s",
            where=access.where,
            remedy="read its log; run the same command to wait again; if there were more machines, and their quorum is "
            "lost: infrakit bootstrap --recover",
        )


async def _recover(provisioner: Provisioner, access: DeclarationAccess, timeout_s: float) -> None:
    """Create missing machines, one at a time, until there are enough for a quorum and the store answers."""
    boot_s = 0.0
    while True:
        existing = await provisioner.machines()
        missing = [each for each in provisioner.nodes if each.slot not in existing]
        if await _until_answers(access, min(boot_s, timeout_s) if missing else timeout_s):
            return
        boot_s = BOOT_S
        if not missing:
            raise errors.Unreachable(
                f"every machine of {provisioner.group.name} exists, and {access.no_answer} after {timeout_s:g} s",
                where=access.where,
                remedy="read the logs of its members",
            )
        await provisioner.create(missing[0], existing.values())


async def _until_answers(access: DeclarationAccess, timeout_s: float) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    while not await access.answers():
        if loop.time() >= until:
            return False
        await asyncio.sleep(POLL_S)
    return True
