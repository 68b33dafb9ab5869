"""Leaving: work moves away from a worker before it goes, and a manager goes only if the quorum can spare it.

A manager that returns with its volume stays what it is. One that is not declared any more is demoted, and removed when
it has no vote any more. A worker never returns: it is removed once it is empty, so that the list shows no ghost of it.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from infrakit.clients.swarm import Swarm
from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import health, link, quorum
from infrakit.flavors.swarm.membership import DRAINED
from infrakit.flavors.swarm.nodes import NodeList
from infrakit.flavors.swarm.properties import PORT, host
from infrakit.spi import errors
from infrakit.spi.values import TAG_LOGICAL_ID, Description

LOOK_S = 0.25
DEMOTION_S = 60.0
WORK_S = 20.0  # for the tasks of a manager; those of workers have the group's own deadline

# What a task passes through before it has ended, in the Swarm's words.
_ALIVE = {"assigned", "accepted", "preparing", "ready", "starting", "running"}


async def spare(nodes: NodeList, instance: Description) -> None:
    """For a while: raises `Refused` when the other managers would be no quorum without it.

    Managers may be of several groups, which take no turns: who was let go counts as away until it has come back.
    """
    listed = await nodes.now()
    node = found(listed, instance)
    if node is None or node.manager is None or node.manager.reachability == "unreachable":
        return  # its vote is lost already
    going = nodes.spared(listed) - {node.id}
    if not (rest := quorum.away(listed, node, going=going)).is_enough:
        raise _refused(instance, f"while it is away, {rest}")
    nodes.spare(node)


async def take_off(nodes: NodeList, instance: Description) -> None:
    """For ever. Raises `Refused` when the others would be no quorum, and what the client raises."""
    listed = await nodes.now()
    node = found(listed, instance)
    if node is None:
        return
    if node.manager is not None:
        rest = quorum.removed(listed, node, going=nodes.spared(listed) - {node.id})
        if rest.total == 0:
            what = "it is the last manager of its Swarm, and holds the only copy of its state"
            raise errors.Refused(what, where=_where(instance), remedy="declare it again, or destroy the group")
        if not rest.is_enough:
            raise _refused(instance, f"after its removal, {rest}")
        nodes.spare(node)
    try:
        # The Swarm demotes nobody without a vote: one that was to have one, and has none yet, is removed as it is.
        await _close(nodes.swarm, node, role="worker" if node.manager is not None else None)
        await _demoted(nodes.swarm, node, instance)
        with contextlib.suppress(TimeoutError, errors.NotFound):
            async with asyncio.timeout(WORK_S):
                await _emptied(nodes.swarm, node)
        with contextlib.suppress(errors.NotFound):
            await nodes.swarm.remove_node(node.id, force=True)
    finally:
        nodes.forget()


async def _demoted(swarm: Swarm, node: Node, instance: Description) -> None:
    """Until it has no vote. Who leads may have to move for it: then the connection fails for a moment."""
    problem = "it still has a vote"
    try:
        async with asyncio.timeout(DEMOTION_S):
            while True:
                try:
                    if (await swarm.node(node.id)).manager is None:
                        return
                except errors.NotFound:
                    return
                except errors.Unreachable as error:
                    problem = error.what
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        what = f"the managers have not let it go within {DEMOTION_S:g} s: {problem}"
        raise errors.Refused(what, where=_where(instance), remedy="it is tried again") from None


async def refuse_voter(nodes: NodeList, instance: Description) -> None:
    """Raises `Refused` for a worker that somebody has made a manager: its vote would be missing."""
    node = found(await nodes.now(), instance)
    if node is not None and (node.role == "manager" or node.manager is not None):
        remedy = f"docker node demote {node.id}"
        raise errors.Refused(
            f"the node {node.id} was made a manager, and has a vote", where=_where(instance), remedy=remedy
        )


async def empty(nodes: NodeList, instance: Description) -> None:
    """Drain a worker, wait until nothing runs on it, and remove it. How long that may take is for the caller to say."""
    node = found(await nodes.now(), instance)
    if node is None or node.role == "manager" or node.manager is not None:
        return
    try:
        # It may be removed meanwhile, which is what is wanted.
        with contextlib.suppress(errors.NotFound):
            await _close(nodes.swarm, node)
            await _emptied(nodes.swarm, node)
            await nodes.swarm.remove_node(node.id, force=True)
    finally:
        nodes.forget()


async def _close(swarm: Swarm, node: Node, *, role: str | None = None) -> None:
    """It gets no work any more, and what it has moves away."""
    if node.availability != "drain" or role not in (None, node.role):
        labels = {**node.labels, DRAINED: "true"}
        await swarm.update_node(node.id, node.version, role=role, availability="drain", labels=labels)


async def _emptied(swarm: Swarm, node: Node) -> None:
    """Until nothing runs on it. What the list shows of a dead one is out of date. Raises `NotFound`."""
    while (await swarm.node(node.id)).state != "down":
        if not any(each.state in _ALIVE for each in await swarm.tasks({"node": [node.id]})):
            return
        await asyncio.sleep(LOOK_S)


def found(nodes: Sequence[Node], instance: Description) -> Node | None:
    """The node of an instance. Raises `Refused` when nobody can tell which of several it is."""
    own = link.of(instance)
    linked = list(health.by_link(nodes).get(own, ())) if own else []
    if not linked:  # it may have a vote, and not bear its link yet
        linked = [each for each in nodes if each.manager is not None and _is_at(each, link.logical_id(instance))]
    if len(linked) > 1:
        named = ", ".join(each.id for each in linked)
        raise errors.Refused(f"several nodes are of its link: {named}", where=_where(instance), remedy="remove one")
    return linked[0] if linked else None


def _is_at(node: Node, name: str | None) -> bool:
    """Whether it is the voter of that address."""
    if name is None or node.manager is None:
        return False
    return node.engine_labels.get(TAG_LOGICAL_ID) == name or node.manager.addr == f"{host(name)}:{PORT}"


def _where(instance: Description) -> str:
    name = link.logical_id(instance)
    return f"{instance.id} ({name})" if name else instance.id


def _refused(instance: Description, what: str) -> errors.Refused:
    remedy = "wait until the others are reachable, or take dead ones off: docker node demote, docker node rm"
    return errors.Refused(what, where=_where(instance), remedy=remedy)
