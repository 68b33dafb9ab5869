"""The flavor `etcd`: members with fixed addresses that found one cluster and keep their data across replacements.

properties  what can be declared
boot        the script that decides on the machine how its etcd starts: boot.sh.j2, or another template
health      polls of all members, and the verdicts derived from them
membership  removes members and checks the quorum first
"""

import contextlib
from collections.abc import Mapping, Sequence

import msgspec

from infrakit.clients.etcd import Etcd, Member
from infrakit.ensemble import parts
from infrakit.flavors.etcd import boot, health, membership
from infrakit.flavors.etcd import properties as declared_
from infrakit.flavors.etcd.properties import Properties, decode
from infrakit.spi import errors
from infrakit.spi.flavor import MemberParts, Voter, health_by_state
from infrakit.spi.metadata import Snapshots
from infrakit.spi.values import (
    TAG_GROUP,
    TAG_LOGICAL_ID,
    Allocation,
    Attachment,
    Description,
    GroupID,
    Health,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
)
from infrakit.template.boot import BootScripts, Instance
from infrakit.template.boot import examples as examples_of
from infrakit.template.engine import Engine

REQUEST_TIMEOUT_S = 3.0  # of each request to one member
POLICIES = ("MaxLag", "Replica")  # properties that only the leader uses

_WITHOUT_ADDRESS = HealthReport(health=Health.UNKNOWN, note="it has no logical ID, and so no member address")
_BY_STATE = health_by_state(finished=HealthReport(health=Health.UNHEALTHY, note="etcd has exited"))


class EtcdFlavor:
    """Satisfies `Flavor`, `JudgesMany`, `Quorum`, `Voters`, `Attaches`, `Releases`, `Hosts` and `MadeFrom`."""

    def __init__(self, facts: Snapshots | None = None, engine: Engine | None = None) -> None:
        self._scripts = BootScripts(facts, engine)
        self._clients: dict[str, Etcd] = {}
        # The members last observed in each group: some may no longer be declared and still be part of the cluster.
        self._observed: dict[GroupID, frozenset[LogicalID]] = {}

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        declared = decode(properties)
        found = list(declared_.problems(declared, allocation))
        examples = [boot.completed(declared, each, self._scripts) for each in examples_of(properties, allocation)]
        if not (declared.init and declared.init_script_template_url):
            found += await self._scripts.problems({boot.script(declared): examples})
        if found:
            raise errors.InvalidSpec(found)

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        """Add the boot script and the volume. Raises `Refused` without a logical ID, and what rendering raises."""
        declared, logical_ids = decode(properties), allocation.logical_ids or ()
        if spec.logical_id is None or not logical_ids:
            raise errors.Refused("a member of etcd needs a logical ID", where="etcd", remedy="declare LogicalIDs")
        plain = Instance(properties=properties, spec=spec, allocation=allocation, index=index)
        instance = boot.completed(declared, plain, self._scripts, observed=self._observed.get(index.group, ()))
        (script,) = await self._scripts.render([boot.script(declared)], instance)
        return msgspec.structs.replace(instance.spec, init=script)

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        return (await self._judge(decode(properties), [instance]))[instance.id]

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        """Poll all members in one concurrent round, and derive each verdict from all results."""
        for group in {_group(each) for each in instances}:
            names = (_logical_id(each) for each in instances if _group(each) == group)
            self._observed[group] = frozenset(name for name in names if name is not None)
        return await self._judge(decode(properties), instances)

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        """Move leadership to the member with the highest applied index. One that does not answer cannot lead."""
        declared, name = decode(properties), _logical_id(instance)
        if name is None:
            return
        cluster = await membership.observe([declared.client_url(name)], self._client)
        member = cluster.member_at(declared.peer_url(name)) if cluster is not None else None
        if cluster is not None and member is not None:
            await membership.move_leadership(cluster, member, self._client)

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:
        """Permit the absence of a member that is declared and will return; remove any other from the cluster.

        Raises `Refused` if the others would have no quorum.
        """
        declared, name = decode(properties), _logical_id(instance)
        if name is None:
            return
        where, declared_ids = f"{instance.id} ({name})", set(allocation.logical_ids or ())
        own, peer = declared.client_url(name), declared.peer_url(name)
        cluster = await membership.observe(
            [*map(declared.client_url, sorted(declared_ids - {name})), own], self._client
        )
        member = cluster.member_at(peer) if cluster is not None else None
        if name in declared_ids:
            if cluster is not None and member is not None:
                membership.check_absence(cluster, member, where=where)
        elif cluster is None:
            what = "no member has a leader, so it cannot be removed from the member list"
            raise errors.Refused(what, where=where, remedy="restore the quorum first")
        elif member is not None:
            await membership.remove(cluster, member, self._client, where=where)
        else:
            poll = await health.poll(self._client(own))
            if poll.status is not None and poll.status.cluster != cluster.identity and poll.healthy:
                other = f"{poll.status.cluster:x}"
                what = f"it is a member of another cluster, {other}, which may not survive without it"
                raise errors.Refused(what, where=where, remedy="find out which of the two clusters holds the data")

    async def voters(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[Voter]:
        """Return all voters of the member list. Raises `Unreachable` unless a member that has a leader returns it."""
        declared = decode(properties)
        names = {each.id: name for each in instances if (name := _logical_id(each))}
        asked = {*names.values(), *(allocation.logical_ids or ())}
        cluster = await membership.observe([declared.client_url(each) for each in sorted(asked)], self._client)
        if cluster is None:
            raise errors.Unreachable("no member has a leader", where="etcd", remedy="restore the quorum first")
        peers = {instance: declared.peer_url(name) for instance, name in names.items()}
        return membership.voters(cluster, peers)

    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:  # noqa: ARG002
        return True

    async def attachments(
        self, *, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        declared = decode(properties)
        return {each: declared.attachments(each) for each in allocation.logical_ids or ()}

    def made_from(self, *, properties: msgspec.Raw) -> MemberParts:
        return parts.without(properties, POLICIES, script=boot.script(decode(properties)))

    async def replicas(self, *, properties: msgspec.Raw, allocation: Allocation) -> Sequence[str]:
        declared = decode(properties)
        return [declared.replica_of(each) for each in allocation.logical_ids or () if declared.replica]

    async def close(self) -> None:
        """Close all connections. The object may be used again afterwards."""
        self._scripts.close()
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    # -- polling ---------------------------------------------------------------------------------------------------

    def _client(self, url: str) -> Etcd:
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = Etcd([url], deadline_s=REQUEST_TIMEOUT_S)
        return client

    async def _judge(self, declared: Properties, instances: Sequence[Description]) -> Mapping[InstanceID, HealthReport]:
        names = {each.id: name for each in instances if (name := _logical_id(each)) and each.state not in _BY_STATE}
        round_ = await self._poll_round(declared, set(names.values()))
        return {
            each.id: round_.verdict(names[each.id]) if each.id in names else _BY_STATE.get(each.state, _WITHOUT_ADDRESS)
            for each in instances
        }

    async def _poll_round(self, declared: Properties, names: set[LogicalID]) -> health.Round:
        polls = await health.poll_all({name: self._client(declared.client_url(name)) for name in sorted(names)})
        healthy = [each for each in polls.values() if each.healthy]
        leader = next((each.status for each in healthy if each.leads), None)
        members: tuple[Member, ...] = ()
        if healthy:
            with contextlib.suppress(errors.InfraKitError):  # the verdicts then ignore the member list
                members = await self._client(healthy[0].url).members()
        if members and leader is None:
            leads = healthy[0].status.leader if healthy[0].status is not None else 0
            url = next((url for each in members if each.id == leads for url in each.client_urls), None)
            leader = (await health.poll(self._client(url))).status if url is not None else None
        return health.Round(polls=polls, members=members, leader=leader, max_lag=declared.max_lag)


def _logical_id(instance: Description) -> LogicalID | None:
    found = instance.logical_id or (instance.tags or {}).get(TAG_LOGICAL_ID)
    return LogicalID(found) if found else None


def _group(instance: Description) -> GroupID:
    return GroupID((instance.tags or {}).get(TAG_GROUP, ""))
