"""A flavor with a list of members of its own, as a cluster has one: whoever joins stays on it until taken off.

It believes what it is told of who lives, so that a list that loses a living member shows that it was told wrong.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

import msgspec

from infrakit.instances.simulator import Machine, Simulator
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import Allocation, Description, GroupID, InstanceID


class Entry(msgspec.Struct, kw_only=True):
    """One member, alive or not."""

    machine: Machine
    voting: bool = False


class ListingFlavor(SimulatedFlavor):
    """Satisfies `spi.flavor.Members`, too; faults of preparing are faults of changing the list."""

    def __init__(self, simulator: Simulator, rng: random.Random) -> None:
        super().__init__(simulator, rng)
        self.entries: dict[InstanceID, Entry] = {}
        self.removals: list[Callable[[Machine], None]] = []  # told whom the list has lost
        simulator.watchers.append(self._happened)

    def _happened(self, what: str, machine: Machine) -> None:
        if what != "ended" and machine.token:  # what others have made is no member
            self.entries[machine.id] = Entry(machine=machine)

    def listed(self, group: GroupID) -> dict[InstanceID, Entry]:
        """Who is on the list of a group."""
        return {i: e for i, e in self.entries.items() if e.machine.tags.get(values.TAG_GROUP) == group}

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        del properties, allocation
        if self._rng.random() < self.faults.unknown_rate:
            raise errors.Unreachable("nobody leads", where="list")
        return self._needs(instances)

    def _needs(self, instances: Sequence[Description]) -> list[MembershipChange]:
        known = {text for each in instances for text in (each.id, (each.tags or {}).get(values.TAG_TOKEN))}
        needs = []
        for group in {GroupID((each.tags or {}).get(values.TAG_GROUP, "")): None for each in instances}:
            for instance, entry in self.listed(group).items():
                if known.isdisjoint({instance, entry.machine.token}):
                    needs.append(MembershipChange(id=f"remove/{instance}", what=f"{instance} is gone and taken off"))
                elif not entry.voting:
                    change = MembershipChange(id=f"promote/{instance}", what=f"{instance} is let in", instance=instance)
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
        del properties, allocation
        if self.faults.prepare_s:
            await asyncio.sleep(self._rng.random() * self.faults.prepare_s)
        if self._rng.random() < self.faults.prepare_fail_rate:
            raise errors.Refused("another member is not reachable")
        if change.id in {need.id for need in self._needs(instances)}:
            verb, _, name = change.id.partition("/")
            if verb == "promote":
                self.entries[InstanceID(name)].voting = True
            else:
                entry = self.entries.pop(InstanceID(name))
                for told in self.removals:
                    told(entry.machine)
        if self._rng.random() < self.faults.prepare_fail_rate:
            raise errors.OutcomeUnknown("the connection broke", where="list")
