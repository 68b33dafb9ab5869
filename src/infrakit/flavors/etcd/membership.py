"""Leaving: a member goes for good through the cluster itself, and nobody goes whom the quorum cannot spare.

What counts is the cluster's own list of members, not the declaration: one that is listed and dead weighs on the quorum
as much as one that is declared.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from infrakit.clients.etcd import Etcd, Member
from infrakit.flavors.etcd.health import Look, look_at_all
from infrakit.spi import errors

Open = Callable[[str], Etcd]  # a client of one URL

_NO_MARGIN = 2  # members: so few cannot spare any, and could never be healed or rolled if that were held against them


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The members as they are listed, and those of them that have a leader and answer."""

    members: tuple[Member, ...]
    able: dict[int, Look]  # by member
    identity: int

    def of(self, peer_url: str) -> Member | None:
        return next((each for each in self.members if peer_url in each.peer_urls), None)

    def able_beside(self, member: Member) -> list[Member]:
        """Voters that answer and have a leader, the furthest ahead first."""
        able = [m for m in self.members if m.id in self.able and m.id != member.id and not m.is_learner]
        return sorted(able, key=lambda m: -(status.applied_index if (status := self.able[m.id].status) else 0))


async def observe(urls: Sequence[str], open_: Open) -> Cluster | None:
    """Ask those at `urls`, and whomever they list besides. None: nobody of them has a leader."""
    looks = await look_at_all({url: open_(url) for url in urls})
    speaker = next((each for each in looks.values() if each.healthy and each.status is not None), None)
    if speaker is None or speaker.status is None:
        return None
    # It has just answered what only a quorum can: its list is that of the cluster now.
    members = await open_(speaker.url).members()
    more = {url for each in members for url in each.client_urls[:1]} - looks.keys()
    looks |= await look_at_all({url: open_(url) for url in sorted(more)})
    identity = speaker.status.cluster
    able = {
        each.status.member: each
        for each in looks.values()
        if each.healthy and each.status is not None and each.status.cluster == identity
    }
    return Cluster(members=members, able=able, identity=identity)


def spare(cluster: Cluster, member: Member, *, where: str) -> None:
    """Raises `Refused` when the others would be no quorum while this one is away."""
    if member.id not in cluster.able or len(cluster.members) <= _NO_MARGIN:
        return
    _need(cluster, cluster.able_beside(member), len(cluster.members), "while it is away", where)


async def remove(cluster: Cluster, member: Member, open_: Open, *, where: str) -> None:
    """Take a member off the list, its leadership moved before. Raises `Refused` when the others would be no quorum."""
    rest = len(cluster.members) - 1
    if rest == 0:
        what = "it is the last member of its cluster, and holds the only copy of the data"
        raise errors.Refused(what, where=where, remedy="declare it again, or destroy the group")
    able = cluster.able_beside(member)
    _need(cluster, able, rest, "after its removal", where)
    await transfer_leadership(cluster, member, open_)
    try:
        await open_(cluster.able[able[0].id].url).remove_member(member.id)
    except errors.Unreachable as error:
        what = f"etcd does not take it off the list of members yet: {error.what}"
        remedy = "it wants the others to have been connected for five seconds; it is asked again"
        raise errors.Refused(what, where=where, remedy=remedy) from error


async def transfer_leadership(cluster: Cluster, member: Member, open_: Open) -> None:
    """If this member leads, let the one that is furthest ahead lead."""
    own, able = cluster.able.get(member.id), cluster.able_beside(member)
    if own is not None and own.leads and able:
        await open_(own.url).move_leader(able[0].id)


def _need(cluster: Cluster, able: Sequence[Member], total: int, when: str, where: str) -> None:
    quorum = total // 2 + 1
    if len(able) < quorum:
        _refuse(
            cluster,
            f"{len(able)} of {total} members would be left healthy {when}, and the quorum needs {quorum}",
            where,
        )


def _refuse(cluster: Cluster, what: str, where: str) -> NoReturn:
    silent = [each.name or each.peer_urls[0] for each in cluster.members if each.id not in cluster.able]
    told = f" (not healthy: {', '.join(silent)})" if silent else ""
    remedy = "wait until the others are healthy, or take dead ones off the list: etcdctl member remove"
    raise errors.Refused(f"{what}{told}", where=where, remedy=remedy)
