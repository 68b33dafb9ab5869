"""Drains and removes nodes before their instances are destroyed; a manager only while the others keep the quorum.

A manager that returns with its volume keeps its role and its node. A manager that is no longer declared is demoted, and
removed once it has no vote. A worker never returns: it is drained and removed, so that no stale node stays in the list.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from infrakit.clients.swarm import Swarm
from infrakit.clients.swarm_values import Node
from infrakit.ensemble.members import host
from infrakit.flavors.swarm import health, link, quorum
from infrakit.flavors.swarm.membership import DRAINED
from infrakit.flavors.swarm.nodes import NodeList
from infrakit.flavors.swarm.properties import PORT
from infrakit.spi import errors
from infrakit.spi.values import TAG_LOGICAL_ID, Description

POLL_S = 0.25
DEMOTION_TIMEOUT_S = 60.0
TASKS_TIMEOUT_S = 20.0  # for moving the tasks of a manager; workers have the DrainTimeout of the group

# The states of a task that has not terminated.
_LIVE_STATES = {"assigned", "accepted", "preparing", "ready", "starting", "running"}


async def permit_absence(nodes: NodeList, instance: Description) -> None:
    """Permit a manager to be absent for a while. Raises `Refused` if the others would have no quorum.

    Managers may belong to several groups, which do not coordinate: a node counts as absent from here until it returns.
    """
    listed = await nodes.now()
    node = find_node(listed, instance)
    if node is None or node.manager is None or node.manager.reachability == "unreachable":
        return  # its vote is lost already
    others_leaving = nodes.expected_absent(listed) - {node.id}
    if not (rest := quorum.while_absent(listed, node, leaving=others_leaving)).is_enough:
        raise _refused(instance, f"while it is absent, {rest}")
    nodes.expect_absence(node)


async def remove(nodes: NodeList, instance: Description) -> None:
    """Drain, demote and remove a node.

    Raises `Refused` if the others would have no quorum, and what the client raises.
    """
    listed = await nodes.now()
    node = find_node(listed, instance)
    if node is None:
        return
    if node.manager is not None:
        rest = quorum.after_removal(listed, node, leaving=nodes.expected_absent(listed) - {node.id})
        if rest.total == 0:
            what = "it is the last manager of its Swarm, and holds the only copy of its state"
            raise errors.Refused(what, where=_where(instance), remedy="declare it again, or destroy the group")
        if not rest.is_enough:
            raise _refused(instance, f"after its removal, {rest}")
        nodes.expect_absence(node)
    try:
        # The Swarm refuses to demote a manager that has no vote yet; it is removed with its role unchanged.
        await _drain(nodes.swarm, node, role="worker" if node.manager is not None else None)
        await _wait_until_demoted(nodes.swarm, node, instance)
        with contextlib.suppress(TimeoutError, errors.NotFound):
            async with asyncio.timeout(TASKS_TIMEOUT_S):
                await _wait_until_empty(nodes.swarm, node)
        with contextlib.suppress(errors.NotFound):
            await nodes.swarm.remove_node(node.id, force=True)
    finally:
        nodes.invalidate()


async def _wait_until_demoted(swarm: Swarm, node: Node, instance: Description) -> None:
    """Wait until it has no vote. Connections may fail briefly while leadership moves: they are retried."""
    problem = "it still has a vote"
    try:
        async with asyncio.timeout(DEMOTION_TIMEOUT_S):
            while True:
                try:
                    if (await swarm.node(node.id)).manager is None:
                        return
                except errors.NotFound:
                    return
                except errors.Unreachable as error:
                    problem = error.what
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        what = f"its demotion is not complete after {DEMOTION_TIMEOUT_S:g} s: {problem}"
        raise errors.Refused(what, where=_where(instance), remedy="the removal is retried") from None


async def refuse_voter(nodes: NodeList, instance: Description) -> None:
    """Raise `Refused` for a worker that was promoted outside InfraKit: the quorum would lose its vote."""
    node = find_node(await nodes.now(), instance)
    if node is not None and (node.role == "manager" or node.manager is not None):
        remedy = f"docker node demote {node.id}"
        raise errors.Refused(
            f"the node {node.id} was promoted to manager outside InfraKit", where=_where(instance), remedy=remedy
        )


async def drain_and_remove(nodes: NodeList, instance: Description) -> None:
    """Drain a worker, wait until nothing runs on it, and remove it. The caller sets the timeout."""
    node = find_node(await nodes.now(), instance)
    if node is None or node.role == "manager" or node.manager is not None:
        return
    try:
        # NotFound: another process has removed it, which is the desired state.
        with contextlib.suppress(errors.NotFound):
            await _drain(nodes.swarm, node)
            await _wait_until_empty(nodes.swarm, node)
            await nodes.swarm.remove_node(node.id, force=True)
    finally:
        nodes.invalidate()


async def _drain(swarm: Swarm, node: Node, *, role: str | None = None) -> None:
    """Set the node to drain: the scheduler moves all tasks away from it and assigns no new ones."""
    if node.availability != "drain" or role not in (None, node.role):
        labels = {**node.labels, DRAINED: "true"}
        await swarm.update_node(node.id, node.version, role=role, availability="drain", labels=labels)


async def _wait_until_empty(swarm: Swarm, node: Node) -> None:
    """Wait until nothing runs on it. Tasks of a node that is down are out of date. Raises `NotFound`."""
    while (await swarm.node(node.id)).state != "down":
        if not any(each.state in _LIVE_STATES for each in await swarm.tasks({"node": [node.id]})):
            return
        await asyncio.sleep(POLL_S)


def find_node(nodes: Sequence[Node], instance: Description) -> Node | None:
    """Return the node of an instance. Raises `Refused` if several nodes have its link."""
    own = link.of(instance)
    linked = list(health.by_link(nodes).get(own, ())) if own else []
    if not linked:  # a voter may not have its link yet
        linked = [each for each in nodes if each.manager is not None and _is_at(each, link.logical_id(instance))]
    if len(linked) > 1:
        named = ", ".join(each.id for each in linked)
        raise errors.Refused(f"several nodes have its link: {named}", where=_where(instance), remedy="remove one")
    return linked[0] if linked else None


def _is_at(node: Node, name: str | None) -> bool:
    """Whether the node has a vote and this logical ID, by its label or its address."""
    if name is None or node.manager is None:
        return False
    return node.engine_labels.get(TAG_LOGICAL_ID) == name or node.manager.addr == f"{host(name)}:{PORT}"


def _where(instance: Description) -> str:
    name = link.logical_id(instance)
    return f"{instance.id} ({name})" if name else instance.id


def _refused(instance: Description, what: str) -> errors.Refused:
    remedy = "wait until the others are reachable, or remove those lost for good: docker node demote, docker node rm"
    return errors.Refused(what, where=_where(instance), remedy=remedy)
