"""A flavor with its own member list, like that of a cluster: a member stays on it until it is removed.

It trusts the listing of instances that the controller passes in, so that the removal of a living member reveals a
controller that passed a wrong listing.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

import msgspec

from infrakit.instances.simulator import Machine, Simulator
from infrakit.simulation.cloud import FOREIGN
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.flavor import MembershipChange, Voter
from infrakit.spi.values import Allocation, Description, GroupID, InstanceID


class MemberEntry(msgspec.Struct, kw_only=True):
    """One entry of the member list; the instance may have terminated."""

    machine: Machine
    voting: bool = False
    released: bool = False  # it leaves, unless its logical ID is declared again


class ListingFlavor(SimulatedFlavor):
    """A flavor that implements `spi.flavor.Members`; its prepare faults also apply to membership changes."""

    def voting(self, group: GroupID) -> set[InstanceID]:
        """The instances that have a vote, also those that have terminated."""
        return {instance for instance, entry in self.listed(group).items() if entry.voting}

    def __init__(self, simulator: Simulator, rng: random.Random) -> None:
        super().__init__(simulator, rng)
        self.entries: dict[InstanceID, MemberEntry] = {}
        self.removals: list[Callable[[Machine], None]] = []  # called with the instance of every removed member
        simulator.watchers.append(self._on_change)

    def _on_change(self, what: str, machine: Machine) -> None:
        if what == "created" and machine.token and not machine.token.startswith(f"{FOREIGN}/"):
            self.entries[machine.id] = MemberEntry(machine=machine)

    def listed(self, group: GroupID) -> dict[InstanceID, MemberEntry]:
        """Return the member list of one group."""
        return {i: e for i, e in self.entries.items() if e.machine.tags.get(values.TAG_GROUP) == group}

    def _is_reused(self, entry: MemberEntry) -> bool:
        """Whether the ID is that of another machine now, which is not on the list because of it."""
        found = self._simulator.machines.get(entry.machine.id)
        return found is not None and found is not entry.machine

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        del properties
        if self._rng.random() < self.faults.unknown_rate:
            raise errors.Unreachable("no leader", where="list")
        needs = self._needs(instances, allocation)
        if instances and self._rng.random() < self.faults.fact_rate:
            needs.append(MembershipChange(id="fact", what="an unknown node is on the list", due=False))
        return needs

    def _needs(self, instances: Sequence[Description], allocation: Allocation) -> list[MembershipChange]:
        declared = allocation.logical_ids or ()
        known = {text for each in instances for text in (each.id, (each.tags or {}).get(values.TAG_TOKEN))}
        needs = []
        for group in {GroupID((each.tags or {}).get(values.TAG_GROUP, "")): None for each in instances}:
            for instance, entry in self.listed(group).items():
                names = {entry.machine.token} if self._is_reused(entry) else {instance, entry.machine.token}
                if known.isdisjoint(names):
                    needs.append(
                        MembershipChange(id=f"remove/{instance}", what=f"remove {instance}: it has terminated")
                    )
                elif not entry.voting and (not entry.released or entry.machine.logical_id in declared):
                    change = MembershipChange(id=f"promote/{instance}", what=f"promote {instance}", instance=instance)
                    needs.append(change)
        return needs

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        del properties
        if self.faults.prepare_s:
            await asyncio.sleep(self._rng.random() * self.faults.prepare_s)
        if self._rng.random() < self.faults.prepare_fail_rate:
            raise errors.Refused("another member is not reachable")
        if change.id in {need.id for need in self._needs(instances, allocation)}:
            verb, _, name = change.id.partition("/")
            if verb == "promote":
                self.entries[InstanceID(name)].voting = True
            else:
                entry = self.entries.pop(InstanceID(name))
                for on_removed in self.removals:
                    on_removed(entry.machine)
        if self._rng.random() < self.faults.prepare_fail_rate:
            raise errors.OutcomeUnknown("the connection broke", where="list")


class VotingFlavor(ListingFlavor):
    """A flavor that also implements `spi.flavor.Voters`."""

    async def voters(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[Voter]:
        del properties, allocation
        if self.faults.hides_voters or self._rng.random() < self.faults.unknown_rate:
            raise errors.Unreachable("no leader", where="list")
        tokens = {(each.tags or {}).get(values.TAG_TOKEN): each.id for each in instances if each.id}
        found = []
        for group in {GroupID((each.tags or {}).get(values.TAG_GROUP, "")): None for each in instances}:
            for instance, entry in self.listed(group).items():
                if entry.voting:
                    mine = tokens.get(entry.machine.token)
                    healthy = not self._is_reused(entry) and self._simulator.is_healthy(instance)
                    found.append(Voter(id=instance, instances=(mine,) if mine else (), healthy=healthy))
        return found


class ReleasingFlavor(VotingFlavor):
    """A flavor that also implements `spi.flavor.Releases`: it takes the vote of a member that is not replaced."""

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:
        del properties
        if self._rng.random() < self.faults.release_fail_rate:
            raise errors.Refused("another member is not reachable")
        entry = self.entries.get(instance.id)
        if entry is not None and instance.logical_id not in (allocation.logical_ids or (instance.logical_id,)):
            entry.voting, entry.released = False, True
        if self._rng.random() < self.faults.release_fail_rate / 4:
            raise errors.OutcomeUnknown("the connection broke", where="list")
