"""A scenario is everything that one seed decides: groups, operator commands, faults, and their times."""

import json
import random
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from infrakit.instances.simulator import Faults, Spread
from infrakit.simulation.parts import FlavorFaults, StoreFaults, logical_ids

REPLICA_FAULTS = (  # including faults of the quorum that the replicas run on
    "crash",
    "crash",
    "kill replica",
    "kill replica",
    "lose machine",
    "freeze",
    "freeze",
    "partition",
    "partition",
    "flip",
    "flip",
    "dispute",
    "dispute",
    "cut",
    "slow store",
    "resign",
)
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
    "outage",
    "seed",
    *REPLICA_FAULTS,
)


Deed = tuple[float, str, int]  # an operator command or a fault: time, kind, seed for its details
DRIFT = 0.02  # of each clock; any two clocks stay within the documented bound
SKEW_S = 1.0  # the maximum error of wall clocks


LISTING_SHARE = 0.3  # the share of worlds whose flavor has a member list


class GroupPlan(msgspec.Struct, kw_only=True):
    """One group as the simulated operator declares it."""

    name: str
    pets: bool
    quorum: bool
    size: int
    ids: list[str]
    net: str  # network of added logical IDs; each group has its own
    version: int = 0
    bad: bool = False
    updating: dict[str, object]
    healing: dict[str, object]
    volumes: bool
    in_flight: int

    def document(self) -> str:
        """Return the declaration of the group as JSON text."""
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


class NodeClock(NamedTuple):
    """The errors of the clocks of one node."""

    rate: float = 1.0
    offset_s: float = 0.0
    skew_s: float = 0.0  # error of the wall clock


class Scenario(msgspec.Struct, kw_only=True):
    """Everything that happens in one run."""

    seed: int
    minutes: float
    node_clocks: list[NodeClock]  # one for each replica
    election_s: float  # the longest duration of an election
    valid_s: float  # validity of a leadership observation
    poll_s: float
    groups: list[GroupPlan]
    faults: Faults
    store: StoreFaults
    flavor: FlavorFaults
    inspects: bool
    watches: bool  # only if `inspects`
    listing: bool  # the flavor has a member list
    operations: list[Deed]  # operator commands and faults of instances, in sequence
    replica_faults: list[Deed]  # each at its own time, independent of all others

    @property
    def incomplete(self) -> bool:
        """Whether listings may silently omit living instances from a controller that has lost its state."""
        silent = bool(self.faults.silent_partial_rate or self.faults.empty_rate)
        return silent and (len(self.node_clocks) > 1 or bool(self.replica_faults) or not self.inspects)


def draw(seed: int, minutes: float, deeds: Sequence[str] = DEEDS, replicas: int | None = None) -> Scenario:
    """Draw a scenario from one seed; `deeds` limits what may happen, `replicas` fixes the number of replicas."""
    rng = random.Random(seed)
    faults = _faults(rng)
    node_clocks = _node_clocks(rng, replicas)
    operations = _operations(rng, minutes, [d for d in deeds if d not in REPLICA_FAULTS])
    scenario = Scenario(
        seed=seed,
        minutes=minutes,
        node_clocks=node_clocks,
        election_s=rng.choice([0.5, 3.0]),
        valid_s=rng.uniform(2.0, 3.0),
        poll_s=rng.choice([2.0, 5.0, 10.0]),
        groups=[_group(rng, n) for n in range(rng.choice([1, 1, 2, 3]))],
        faults=faults,
        store=StoreFaults(
            unreachable_rate=_rate(rng, 0.1), lost_rate=_rate(rng, 0.1), latency_s=rng.choice([0.0, 0.0, 0.5])
        ),
        flavor=FlavorFaults(
            unknown_rate=_rate(rng, 0.2),
            prepare_fail_rate=_rate(rng, 0.1),
            prepare_s=rng.choice([0.0, 0.0, 10.0]),
            drain_s=rng.choice([0.0, 0.0, 5.0]),
            drain_hang_rate=_rate(rng, 0.1),
        ),
        inspects=(inspects := rng.random() < 0.5),
        watches=inspects and rng.random() < 0.5,
        listing=random.Random(f"{seed} listing").random() < LISTING_SHARE,
        operations=operations,
        replica_faults=_replica_faults(
            rng, minutes, [d for d in deeds if d in REPLICA_FAULTS], operations, alone=len(node_clocks) == 1
        ),
    )
    if scenario.incomplete:  # then only the provider can prevent two instances with one logical ID
        scenario.faults = msgspec.structs.replace(faults, exclusive=True)
    return scenario


def _node_clocks(rng: random.Random, replicas: int | None) -> list[NodeClock]:
    drawn = rng.choice([1, 3, 3, 3, 4, 5])
    return [
        NodeClock(
            rate=1.0 + rng.uniform(-DRIFT, DRIFT),
            offset_s=rng.uniform(0.0, 1e5),
            skew_s=rng.uniform(-SKEW_S, SKEW_S),
        )
        for _ in range(replicas or drawn)
    ]


def _operations(rng: random.Random, minutes: float, deeds: Sequence[str]) -> list[Deed]:
    count = rng.randint(3, 12) if deeds else 0
    return sorted((rng.uniform(5.0, minutes * 60.0), rng.choice(deeds), _number(rng)) for _ in range(count))


def _replica_faults(
    rng: random.Random, minutes: float, deeds: Sequence[str], operations: Sequence[Deed], *, alone: bool
) -> list[Deed]:
    """Draw faults of replicas; half of them occur soon after an operation, while its effects are in progress."""
    count = rng.randint(0, 4) if alone else rng.randint(2, 10)
    busy = [0.0, *(at for at, _, _ in operations)]
    return sorted(
        (
            rng.choice(busy) + rng.uniform(0.0, 8.0) if rng.random() < 0.5 else rng.uniform(0.0, minutes * 60.0),
            rng.choice(deeds),
            _number(rng),
        )
        for _ in range(count if deeds else 0)
    )


def _number(rng: random.Random) -> int:
    return rng.randrange(1 << 30)


def _rate(rng: random.Random, most: float) -> float:
    """Draw a fault rate; it is 0 in half of the runs."""
    return rng.random() * most if rng.random() < 0.5 else 0.0


def _group(rng: random.Random, number: int) -> GroupPlan:
    pets = rng.random() < 0.5
    surge = 0 if pets else rng.choice([0, 0, 1, 2])
    return GroupPlan(
        name=f"group-{number}",
        pets=pets,
        quorum=pets and rng.random() < 0.6,
        size=rng.choice([0, 1, 3, 5, 12]),
        ids=[str(i) for i in logical_ids(rng.choice([1, 3, 3, 5]), 1 + 20 * number)],
        net=f"10.0.{1 + number}",
        updating={
            "MaxUnavailable": rng.choice([1, 1, 2, "30%"]),
            "MaxSurge": surge,
            "Settle": rng.choice(["0s", "10s", "30s"]),
            "OnFailure": rng.choice(["pause", "rollback"]),
            "DrainTimeout": rng.choice(["1s", "20s"]),
        },
        healing={
            "BootGrace": rng.choice(["20s", "60s"]),
            "UnhealthyAfter": rng.choice(["5s", "30s"]),
            "Backoff": "2s",
            "BackoffMax": "60s",
        },
        volumes=pets and rng.random() < 0.5,
        in_flight=rng.choice([1, 4, 32]),
    )


def _faults(rng: random.Random) -> Faults:
    lag = Spread(high=rng.choice([0.0, 0.0, 3.0, 20.0]))
    slow = Spread(high=rng.choice([0.0, 0.5, 3.0]))
    tokens = rng.random() < 0.7
    silent = rng.random() < 0.2
    return Faults(
        describe=Spread(high=rng.choice([0.0, 0.5])),
        provision=slow,
        destroy=slow,
        slow_rate=_rate(rng, 0.1),
        unreachable_rate=_rate(rng, 0.1),
        refuse_rate=_rate(rng, 0.1),
        fail_rate=_rate(rng, 0.1),
        lost_rate=_rate(rng, 0.2),
        hang_rate=_rate(rng, 0.03),
        per_second=rng.choice([0.0, 0.0, 0.0, 2.0]),
        burst=rng.choice([5, 20]),
        lag=lag,
        termination_lag=Spread(high=rng.choice([0.0, lag.high])),
        partial_rate=_rate(rng, 0.2),
        silent_partial_rate=_rate(rng, 0.2) if silent else 0.0,
        empty_rate=_rate(rng, 0.1) if silent else 0.0,
        boot=Spread(high=rng.choice([0.0, 5.0, 15.0])),
        never_healthy_rate=_rate(rng, 0.1),
        lifetime=rng.choice([0.0, 0.0, 1200.0]),
        unhealthy_after=rng.choice([0.0, 0.0, 1200.0]),
        tokens=tokens,
        exclusive=rng.random() < 0.5,
    )
