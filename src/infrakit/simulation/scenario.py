"""A scenario: everything that one seed decides. Groups, faults, and what operators and bad luck do, and when."""

import json
import random
from collections.abc import Sequence

import msgspec

from infrakit.instances.simulator import Faults, Spread
from infrakit.simulation.parts import FlavorFaults, StoreFaults, logical_ids

DEEDS = (
    "scale",
    "scale",
    "version",
    "version",
    "bad version",
    "members",
    "halt",
    "pause",
    "abort",
    "rollback",
    "evict",
    "shrink",
    "kill",
    "kill",
    "kill many",
    "sicken",
    "sicken many",
    "crash",
    "crash",
    "outage",
    "seed",
)


class GroupPlan(msgspec.Struct, kw_only=True):
    """One group as the simulated operator wants it."""

    name: str
    pets: bool
    quorum: bool
    size: int
    ids: list[str]
    version: int = 0
    bad: bool = False
    updating: dict[str, object]
    healing: dict[str, object]
    volumes: bool
    in_flight: int

    def document(self) -> str:
        """The declaration as an operator would write it."""
        allocation: dict[str, object] = {"LogicalIDs": self.ids} if self.pets else {"Size": self.size}
        properties = {
            "Allocation": allocation,
            "Instance": {
                "Plugin": "simulator",
                "Properties": {"version": self.version, "NeverHealthy": self.bad},
                "MaxInFlight": self.in_flight,
            },
            "Flavor": {
                "Plugin": "simulated",
                "Properties": {"Quorum": self.quorum, "Volumes": self.volumes, "Version": self.version},
            },
            "Updating": self.updating,
            "Healing": self.healing,
        }
        return json.dumps([{"kind": "group", "metadata": {"name": self.name}, "properties": properties}])


class Scenario(msgspec.Struct, kw_only=True):
    """What happens in one run; `deeds` are (time, what, a number to choose by)."""

    seed: int
    minutes: float
    poll_s: float
    groups: list[GroupPlan]
    faults: Faults
    store: StoreFaults
    flavor: FlavorFaults
    inspects: bool
    deeds: list[tuple[float, str, int]]

    @property
    def lying(self) -> bool:
        """Listings that silently leave out what lives, seen by a controller that has lost its memory."""
        silent = bool(self.faults.silent_partial_rate or self.faults.empty_rate)
        return silent and (any(what == "crash" for _, what, _ in self.deeds) or not self.inspects)


def draw(seed: int, minutes: float, deeds: Sequence[str] = DEEDS) -> Scenario:
    """Everything from one seed; `deeds` are those that may happen."""
    chance = random.Random(seed)
    faults = _faults(chance)
    scenario = Scenario(
        seed=seed,
        minutes=minutes,
        poll_s=chance.choice([2.0, 5.0, 10.0]),
        groups=[_group(chance, n) for n in range(chance.choice([1, 1, 2, 3]))],
        faults=faults,
        store=StoreFaults(
            unreachable_rate=_rate(chance, 0.1), lost_rate=_rate(chance, 0.1), latency_s=chance.choice([0.0, 0.0, 0.5])
        ),
        flavor=FlavorFaults(
            unknown_rate=_rate(chance, 0.2),
            prepare_fail_rate=_rate(chance, 0.1),
            prepare_s=chance.choice([0.0, 0.0, 10.0]),
            drain_s=chance.choice([0.0, 0.0, 5.0]),
            drain_hang_rate=_rate(chance, 0.1),
        ),
        inspects=chance.random() < 0.5,
        deeds=sorted(
            (chance.uniform(5.0, minutes * 60.0), chance.choice(deeds), chance.randrange(1 << 30))
            for _ in range(chance.randint(3, 12))
        ),
    )
    if scenario.lying:  # then only the provider itself can keep two bearers of one identity apart
        scenario.faults = msgspec.structs.replace(faults, exclusive=True)
    return scenario


def _rate(chance: random.Random, most: float) -> float:
    """None in half of the runs."""
    return chance.random() * most if chance.random() < 0.5 else 0.0


def _group(chance: random.Random, number: int) -> GroupPlan:
    pets = chance.random() < 0.5
    surge = 0 if pets else chance.choice([0, 0, 1, 2])
    return GroupPlan(
        name=f"group-{number}",
        pets=pets,
        quorum=pets and chance.random() < 0.6,
        size=chance.choice([0, 1, 3, 5, 12]),
        ids=[str(i) for i in logical_ids(chance.choice([1, 3, 3, 5]), 1 + 20 * number)],
        updating={
            "MaxUnavailable": chance.choice([1, 1, 2, "30%"]),
            "MaxSurge": surge,
            "Settle": chance.choice(["0s", "10s", "30s"]),
            "OnFailure": chance.choice(["pause", "rollback"]),
            "DrainTimeout": chance.choice(["1s", "20s"]),
        },
        healing={
            "BootGrace": chance.choice(["20s", "60s"]),
            "UnhealthyAfter": chance.choice(["5s", "30s"]),
            "Backoff": "2s",
            "BackoffMax": "60s",
        },
        volumes=pets and chance.random() < 0.5,
        in_flight=chance.choice([1, 4, 32]),
    )


def _faults(chance: random.Random) -> Faults:
    lag = Spread(high=chance.choice([0.0, 0.0, 3.0, 20.0]))
    slow = Spread(high=chance.choice([0.0, 0.5, 3.0]))
    tokens = chance.random() < 0.7
    silent = chance.random() < 0.2
    return Faults(
        describe=Spread(high=chance.choice([0.0, 0.5])),
        provision=slow,
        destroy=slow,
        slow_rate=_rate(chance, 0.1),
        unreachable_rate=_rate(chance, 0.1),
        refuse_rate=_rate(chance, 0.1),
        fail_rate=_rate(chance, 0.1),
        lost_rate=_rate(chance, 0.2),
        hang_rate=_rate(chance, 0.03),
        per_second=chance.choice([0.0, 0.0, 0.0, 2.0]),
        burst=chance.choice([5, 20]),
        lag=lag,
        death_lag=Spread(high=chance.choice([0.0, lag.high])),
        partial_rate=_rate(chance, 0.2),
        silent_partial_rate=_rate(chance, 0.2) if silent else 0.0,
        empty_rate=_rate(chance, 0.1) if silent else 0.0,
        boot=Spread(high=chance.choice([0.0, 5.0, 15.0])),
        never_healthy_rate=_rate(chance, 0.1),
        lifetime=chance.choice([0.0, 0.0, 1200.0]),
        sick_after=chance.choice([0.0, 0.0, 1200.0]),
        tokens=tokens,
        exclusive=chance.random() < 0.5,
    )
