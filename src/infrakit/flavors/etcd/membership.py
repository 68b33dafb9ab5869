"""Removing members through the cluster itself, and only while the remaining members keep the quorum.

The quorum is counted from the cluster's own member list, not from the declaration: a failed member that is still listed
counts as much as a declared one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import msgspec

from infrakit.clients.etcd import Etcd, Member
from infrakit.flavors.etcd.health import Poll, poll_all
from infrakit.spi import errors
from infrakit.spi.flavor import Voter
from infrakit.spi.quorum import majority
from infrakit.spi.values import InstanceID

ClientOf = Callable[[str], Etcd]  # returns a client of one URL

_NO_MARGIN = 2  # a cluster of up to two members tolerates no loss; enforcing the quorum would block every replacement


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The member list of a cluster, and the polls of the members that answer and have a leader."""

    members: tuple[Member, ...]
    healthy: dict[int, Poll]  # by member ID
    identity: int

    def member_at(self, peer_url: str) -> Member | None:
        return next((each for each in self.members if peer_url in each.peer_urls), None)

    def healthy_others(self, member: Member) -> list[Member]:
        """Return the other voters that answer and have a leader, the one with the highest applied index first."""
        healthy = [m for m in self.members if m.id in self.healthy and m.id != member.id and not m.is_learner]
        return sorted(healthy, key=lambda m: -(status.applied_index if (status := self.healthy[m.id].status) else 0))


async def observe(urls: Sequence[str], client_of: ClientOf) -> Cluster | None:
    """Poll the members at `urls`, then all others that they list. Returns None if no member at `urls` has a leader."""
    polls = await poll_all({url: client_of(url) for url in urls})
    source = next((each for each in polls.values() if each.healthy and each.status is not None), None)
    if source is None or source.status is None:
        return None
    # It has just answered a read that needs a quorum, so its member list is the current one.
    members = await client_of(source.url).members()
    more = {url for each in members for url in each.client_urls[:1]} - polls.keys()
    polls |= await poll_all({url: client_of(url) for url in sorted(more)})
    identity = source.status.cluster
    healthy = {
        each.status.member: each
        for each in polls.values()
        if each.healthy and each.status is not None and each.status.cluster == identity
    }
    return Cluster(members=members, healthy=healthy, identity=identity)


def voters(cluster: Cluster, peers: Mapping[InstanceID, str]) -> list[Voter]:
    """Return all voters of the member list; `peers` has the peer URL of each instance of the group."""
    return [
        Voter(
            id=f"{each.id:x}",
            name=each.name,
            address=next(iter(each.peer_urls), ""),
            instances=tuple(instance for instance, peer in peers.items() if peer in each.peer_urls),
            healthy=each.id in cluster.healthy,
        )
        for each in cluster.members
        if not each.is_learner
    ]


def check_absence(cluster: Cluster, member: Member, *, where: str) -> None:
    """Raise `Refused` if the others would have no quorum while this member is absent."""
    if member.id not in cluster.healthy or len(cluster.members) <= _NO_MARGIN:
        return
    _require_quorum(cluster, cluster.healthy_others(member), len(cluster.members), "while it is absent", where)


async def remove(cluster: Cluster, member: Member, client_of: ClientOf, *, where: str) -> None:
    """Move leadership away from a member and remove it. Raises `Refused` if the others would have no quorum."""
    rest = len(cluster.members) - 1
    if rest == 0:
        what = "it is the last member of its cluster, and holds the only copy of the data"
        raise errors.Refused(what, where=where, remedy="declare it again, or destroy the group")
    healthy = cluster.healthy_others(member)
    _require_quorum(cluster, healthy, rest, "after its removal", where)
    await move_leadership(cluster, member, client_of)
    try:
        await client_of(cluster.healthy[healthy[0].id].url).remove_member(member.id)
    except errors.Unreachable as error:
        what = f"etcd does not remove the member yet: {error.what}"
        remedy = "etcd requires the other members to have been connected for five seconds; the removal is retried"
        raise errors.Refused(what, where=where, remedy=remedy) from error


async def move_leadership(cluster: Cluster, member: Member, client_of: ClientOf) -> None:
    """If this member leads, transfer leadership to the member with the highest applied index."""
    own, healthy = cluster.healthy.get(member.id), cluster.healthy_others(member)
    if own is not None and own.leads and healthy:
        await client_of(own.url).move_leader(healthy[0].id)


def _require_quorum(cluster: Cluster, healthy: Sequence[Member], total: int, when: str, where: str) -> None:
    quorum = majority(total)
    if len(healthy) < quorum:
        _refuse(
            cluster,
            f"{len(healthy)} of {total} members would be left healthy {when}, and the quorum needs {quorum}",
            where,
        )


def _refuse(cluster: Cluster, what: str, where: str) -> NoReturn:
    unhealthy = [each.name or each.peer_urls[0] for each in cluster.members if each.id not in cluster.healthy]
    named = f" (not healthy: {', '.join(unhealthy)})" if unhealthy else ""
    remedy = "wait until the others are healthy, or remove members that are lost for good: etcdctl member remove"
    raise errors.Refused(f"{what}{named}", where=where, remedy=remedy)
