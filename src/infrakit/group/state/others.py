"""Live instances that are no members of a group: of other clusters with its tag, and of other groups.

Each may have a logical ID of the group, or an entry on its member list. So one that a listing omits is kept until there
is evidence of its termination, like a missing member (laws 2 and 4). One of another cluster is kept, too, if it is
listed without its token: a tag that is missing proves nothing. For the same reason, a logical ID that it once had
remains its own.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from infrakit.group.state import identity
from infrakit.spi import values
from infrakit.spi.token import cluster_of
from infrakit.spi.values import Description, GroupID, InstanceID, State


def logical_ids(instance: Description) -> set[str]:
    """Return its logical ID, as it is listed, and those that its tag and its token name if these are others."""
    tags = instance.tags or {}
    tagged = tags.get(values.TAG_LOGICAL_ID)
    listed = instance.logical_id or tagged
    created_as = identity.created_as(tags.get(values.TAG_TOKEN, ""), tags)
    return {each for each in (listed, tagged, created_as) if each}


class Omitted(msgspec.Struct, kw_only=True):
    """An instance that complete listings omit."""

    since: float  # loop time at which the first of them started
    missed: int = 0


class Others(msgspec.Struct, kw_only=True):
    """What is known of them. Attributes are read freely; they change through the methods only."""

    group: GroupID
    lag_s: float  # the lag that the provider promises
    can_inspect: bool
    kept: dict[InstanceID, Description] = msgspec.field(default_factory=dict)  # although the listing does not show it
    omitted: dict[InstanceID, Omitted] = msgspec.field(default_factory=dict)  # of these, those not listed at all
    _listed: Sequence[Description] = ()
    _shown: Sequence[Description] = ()  # the same, with the logical IDs that they had before

    def listed(
        self,
        shown: Sequence[Description],
        *,
        everything: Sequence[Description],
        ours: Collection[str] | None,
        declared: Collection[str],
        begun_at: float,
    ) -> None:
        """Update from a complete listing of `everything`, which shows those in `shown` as no members.

        `ours`: the names of this cluster; None: every cluster is ours. `declared`: the logical IDs of the group.
        """
        if shown is self._listed and not self.kept:
            return
        known = {each.id: each for each in self._shown} | self.kept
        self._listed = shown
        self._shown = [_remembered(each, known.get(each.id)) for each in shown] if shown and known else shown
        for each in shown:
            known.pop(each.id, None)
        listed = {each.id: each for each in everything if each.id in known} if known else {}
        self.kept = {}
        for instance, before in known.items():
            now = listed.get(instance)
            if now is None:
                if not self._is_terminated(before, declared, begun_at):
                    self.kept[instance] = before
            elif self._is_of_another_cluster(before, now, ours):
                self.kept[instance] = before
        self.omitted = {i: each for i, each in self.omitted.items() if i in self.kept and i not in listed}

    def without(self, listing: Sequence[Description]) -> Sequence[Description]:
        """Return the members in a listing of the group: the listing itself, if all of them are."""
        if not self.kept or not any(each.id in self.kept for each in listing):
            return listing
        return [each for each in listing if each.id not in self.kept]

    def all(self, creating: Sequence[Description]) -> Sequence[Description]:
        """Return all of them, after those that others may be `creating`: what is listed is known better."""
        return [*creating, *self.kept.values(), *self._shown] if creating or self.kept else self._shown

    def unconfirmed(self, declared: Collection[str]) -> Iterator[InstanceID]:
        """Yield the IDs to inspect: omitted, and of concern to the group."""
        return (each for each in self.omitted if self._concerns(self.kept[each], declared))

    def inspected(self, instance: InstanceID, description: Description | None) -> bool:
        """Update from an inspection. True: the instance was omitted, and its termination is confirmed."""
        if instance not in self.omitted or (description is not None and description.state is not State.TERMINATED):
            return False
        del self.omitted[instance], self.kept[instance]
        return True

    def _is_terminated(self, before: Description, declared: Collection[str], begun_at: float) -> bool:
        """Whether its absence proves its termination. If the provider can inspect, only that does."""
        omitted = self.omitted.setdefault(before.id, Omitted(since=begun_at))
        omitted.missed += 1
        if self.can_inspect and self._concerns(before, declared):
            return False
        return omitted.missed > 1 and begun_at - omitted.since >= self.lag_s

    def _is_of_another_cluster(self, before: Description, now: Description, ours: Collection[str] | None) -> bool:
        """Whether it is one of the group's tag whose token was removed, and whose cluster was not adopted."""
        tags: Mapping[str, str] = now.tags or {}
        cluster = cluster_of(before.tags)
        is_unnamed = tags.get(values.TAG_GROUP) == self.group and not tags.get(values.TAG_TOKEN)
        return (
            is_unnamed
            and now.state is not State.TERMINATED
            and ours is not None
            and bool(cluster)
            and (cluster not in ours)
        )

    def _concerns(self, instance: Description, declared: Collection[str]) -> bool:
        is_tagged = (instance.tags or {}).get(values.TAG_GROUP) == self.group
        return is_tagged or not logical_ids(instance).isdisjoint(declared)


def _remembered(now: Description, before: Description | None) -> Description:
    """Return a description with the logical ID that the instance had before, as its tag if it has no such ID now."""
    if before is None:
        return now
    tags, earlier = now.tags or {}, (before.tags or {}).get(values.TAG_TOKEN)
    lost = logical_ids(before) - logical_ids(now)
    if not lost or tags.get(values.TAG_TOKEN, earlier) != earlier:  # another machine with the same instance ID
        return now
    return msgspec.structs.replace(now, tags={**tags, values.TAG_LOGICAL_ID: min(lost)})
