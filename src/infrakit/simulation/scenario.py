"""A scenario is everything that one seed decides: groups, operator commands, faults, and their times."""

import json
import random
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from infrakit.instances.simulator import Faults, Spread
from infrakit.simulation import themes
from infrakit.simulation.cloud import CloudFaults
from infrakit.simulation.parts import FlavorFaults, StoreFaults, logical_ids

REPLICA_FAULTS = (  # including faults of the quorum that the replicas run on, and of the store
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
    "deaf",  # a watch of the store stops without an error
    "jump",  # the wall clock of a node changes by hours
    "old reads",  # the store answers from an earlier state for a while
    "release",  # a replica is upgraded, or downgraded
    "fork",  # one node uses a copy of the store, and an operator accepts the other one later
    "restore",  # the store is restored from a backup, and an operator accepts it
)
OPERATOR = (
    "scale",
    "scale",
    "version",
    "version",
    "bad version",
    "members",
    "resize",
    "halt",
    "pause",
    "abort",
    "rollback",
    "resume",
    "evict",
    "shrink",
    "destroy",
    "destroy volumes",
    "free",
    "policy",  # a change that concerns no member, if the flavor knows what members are made from
)
INSTANCE_FAULTS = (
    "kill",
    "kill",
    "kill many",
    "sicken",
    "sicken many",
    "sicken in turn",  # a common cause: one after the other, and their replacements too
    "stop",  # another party shuts one down, which takes a while
    "detach",
    "revive",
    "revive",
    "alias",
    "lose tags",
    "edit tags",
    "unname",  # a machine is listed without its logical ID, or with that of another one
    "finish",  # it exits on purpose
)
PROVIDER_FAULTS = (
    "outage",
    "empty",  # listings are empty without an error
    "watch stops",
    "seed",
    "foreign",  # an instance of a second installation
)
DEEDS = (*OPERATOR, *INSTANCE_FAULTS, *PROVIDER_FAULTS, *REPLICA_FAULTS)
THEMED = (  # of worlds with a theme only, so that the other worlds remain as they are
    "refuse creations",  # a quota is used up for a while
    "lose creations",  # for a while, they are not answered, and create nothing
    "stray",  # a machine with the group's tag alone
    "foreign volume",  # an instance of a second installation holds the volume of a logical ID
    "hand over",  # a logical ID is taken from one group, and given to the next one
)


Deed = tuple[float, str, int]  # an operator command or a fault: time, kind, seed for its details
DRIFT = 0.02  # of each clock; any two clocks stay within the documented bound
SKEW_S = 1.0  # the error of most wall clocks
LAG_RATE = 1.05  # a promise holds by any clock
SKEW_S_MAX = 6 * 3600.0
LISTING_SHARE = 0.35  # the share of worlds whose flavor has a member list
MOVING_SHARE = 0.5  # the share of groups with volumes whose new logical IDs take over those of old ones
HARDEST_SHARE = 0.4  # of worlds whose provider promises and supports as little as possible


class GroupPlan(msgspec.Struct, kw_only=True):
    """One group as the simulated operator declares it."""

    name: str
    pets: bool
    quorum: bool
    size: int
    ids: list[str]
    net: str  # network of added logical IDs; each group has its own
    version: int = 0
    policy: int = 0
    bad: bool = False
    updating: dict[str, object]
    healing: dict[str, object]
    volumes: bool
    moves: bool = False  # a new logical ID takes over the volume of one that is not declared any more
    named: dict[str, str] = {}  # volumes that are not named after their logical ID
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
                "Properties": {
                    "Quorum": self.quorum,
                    "Volumes": self.volumes,
                    "Named": self.named,
                    "Version": self.version,
                    "Policy": self.policy,
                },
            },
            "Updating": self.updating,
            "Healing": self.healing,
        }
        return json.dumps([{"kind": "group", "metadata": {"name": self.name}, "properties": properties}])

    def resize(self, ids: Sequence[str]) -> None:
        """Declare these logical IDs. With other volumes, the members are of another version."""
        before, self.ids = {i: self.named.get(i, f"vol-{i}") for i in self.ids}, list(dict.fromkeys(ids))
        if not self.moves:
            return
        freed = [volume for i, volume in before.items() if i not in self.ids]
        kept = {i: before[i] for i in self.ids if i in before}
        for i in self.ids:
            if i not in kept:
                own = f"vol-{i}" if f"vol-{i}" not in kept.values() else f"vol-{i}-{self.version}"
                kept[i] = freed.pop() if freed else own
        named = {i: volume for i, volume in kept.items() if volume != f"vol-{i}"}
        if named != self.named:
            self.named, self.version = named, self.version + 1


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
    cloud: CloudFaults = CloudFaults()
    flavor: FlavorFaults
    hardest: bool = False  # no tokens, no lock on identities, no inspect, a long lag
    inspects: bool
    watches: bool  # only if `inspects`
    identified: bool = False  # the provider names its account
    listing: bool  # the flavor has a member list
    voters: bool = False  # the flavor lists the voters; only if `listing`
    releases: bool = False  # the flavor must agree before a member is destroyed; only if `listing`
    parts: bool = False  # the flavor knows what members are made from
    own_node: bool = False  # the replicas run on the members of the first group
    operations: list[Deed]  # operator commands and faults of instances, in sequence
    replica_faults: list[Deed]  # each at its own time, independent of all others

    @property
    def incomplete(self) -> bool:
        """Whether listings may silently omit living instances from a controller that has lost its state."""
        silent = bool(self.faults.silent_partial_rate or self.faults.empty_rate)
        return silent and (len(self.node_clocks) > 1 or bool(self.replica_faults) or not self.inspects)

    @property
    def changes_releases(self) -> bool:
        """Whether replicas of several releases run, so that all of them are in the roster."""
        return any(what == "release" for _, what, _ in self.replica_faults)

    @property
    def loses_evidence(self) -> bool:
        """Whether a group may be managed anew while its instances live: nothing stored names them."""
        deeds = {what for _, what, _ in (*self.operations, *self.replica_faults)}
        return not deeds.isdisjoint({"free", "restore", "fork"})

    @property
    def excuses(self) -> list[str]:
        """The standing faults that the table of exceptions names."""
        return ["silent listings"] if self.incomplete else []


def draw(seed: int, minutes: float, deeds: Sequence[str] = DEEDS, replicas: int | None = None) -> Scenario:
    """Draw a scenario from one seed; `deeds` limits what may happen, `replicas` fixes the number of replicas."""
    rng = random.Random(seed)
    hardest = rng.random() < HARDEST_SHARE
    faults = _hardest(rng, _faults(rng)) if hardest else _faults(rng)
    node_clocks = _node_clocks(rng, replicas)
    operations = _operations(rng, minutes, [d for d in deeds if d not in REPLICA_FAULTS])
    listing = rng.random() < LISTING_SHARE
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
        cloud=_cloud(rng),
        flavor=FlavorFaults(
            unknown_rate=_rate(rng, 0.2),
            prepare_fail_rate=(fails := _rate(rng, 0.1)),
            attachments_fail_rate=fails,
            prepare_s=rng.choice([0.0, 0.0, 10.0]),
            drain_s=rng.choice([0.0, 0.0, 5.0]),
            drain_hang_rate=_rate(rng, 0.1),
            release_fail_rate=_rate(rng, 0.3),
            hides_voters=rng.random() < 0.2,
            fact_rate=_rate(rng, 0.2),
        ),
        hardest=hardest,
        inspects=(inspects := not hardest and rng.random() < 0.6),
        watches=inspects and rng.random() < 0.5,
        identified=rng.random() < 0.5,
        listing=listing,
        voters=listing and rng.random() < 0.7,
        releases=listing and rng.random() < 0.5,
        parts=rng.random() < 0.5,
        own_node=len(node_clocks) > 1 and rng.random() < 0.3,
        operations=operations,
        replica_faults=_replica_faults(
            rng, minutes, [d for d in deeds if d in REPLICA_FAULTS], operations, alone=len(node_clocks) == 1
        ),
    )
    promised_s = scenario.faults.listing_lag_s * LAG_RATE
    scenario.faults = msgspec.structs.replace(scenario.faults, lag_max=promised_s)
    if scenario.own_node:
        _host_replicas(scenario)
    for group in scenario.groups:
        group.moves = group.pets and group.volumes and rng.random() < MOVING_SHARE
    if scenario.incomplete:  # then only the provider can prevent two instances with one logical ID
        scenario.faults = msgspec.structs.replace(scenario.faults, exclusive=True)
    theme = themes.of(seed) if tuple(deeds) == DEEDS else None
    if theme is not None:
        _adopt(scenario, theme)
    return scenario


def _adopt(scenario: Scenario, theme: themes.Theme) -> None:
    """Let the facts of a theme coincide; what the seed has drawn for later remains."""
    rng = random.Random(f"{scenario.seed} theme")
    deeds = sorted((rng.uniform(since, until), what, _number(rng)) for since, until, what in theme.deeds)
    drawn, replace = (scenario.operations, scenario.replica_faults), msgspec.structs.replace
    early = [[each for each in deeds if (each[1] in REPLICA_FAULTS) is of_replicas] for of_replicas in (False, True)]
    scenario.operations, scenario.replica_faults = (
        [*first, *(each for each in later if each[0] >= themes.OVER_S)]
        for first, later in zip(early, drawn, strict=True)
    )
    scenario.own_node = False
    scenario.groups = [_group(rng, number) for number in range(theme.groups)]
    for group in scenario.groups:
        first = int(group.ids[0].rpartition(".")[2])
        group.pets, group.size, group.ids = theme.pets, theme.size, [str(i) for i in logical_ids(theme.size, first)]
        group.quorum, group.volumes = group.quorum and theme.pets, group.volumes and theme.pets
        group.updating |= {**theme.updating, **({"MaxSurge": 0} if theme.pets else {})}
        group.healing |= theme.healing
        for field, value in theme.group.items():
            setattr(group, field, value)
    faults = {"silent_partial_rate": 0.0, "empty_rate": 0.0, "lag_max": None, **theme.faults}
    scenario.faults = replace(scenario.faults, **faults)
    scenario.faults = replace(scenario.faults, lag_max=scenario.faults.listing_lag_s * LAG_RATE)
    scenario.cloud = replace(scenario.cloud, **theme.cloud)
    scenario.flavor = replace(scenario.flavor, **theme.flavor)


def _host_replicas(scenario: Scenario) -> None:
    """Let the members of the first group be the nodes of the replicas."""
    first, count = scenario.groups[0], len(scenario.node_clocks)
    first.pets = first.quorum = True
    first.ids = [str(i) for i in logical_ids(count)]
    first.updating["MaxSurge"] = 0


def _hardest(rng: random.Random, faults: Faults) -> Faults:
    lag = Spread(high=rng.choice([20.0, 60.0]))
    return msgspec.structs.replace(
        faults,
        tokens=False,
        exclusive=False,
        lag=lag,
        termination_lag=lag,
        silent_partial_rate=0.0,
        empty_rate=0.0,
    )


def _cloud(rng: random.Random) -> CloudFaults:
    return CloudFaults(
        late_rate=_rate(rng, 0.2),
        back_rate=_rate(rng, 0.4),
        repeat_rate=_rate(rng, 0.1),
        empty_id_rate=_rate(rng, 0.05),
        stops_s=rng.choice([0.0, 0.0, 10.0, 60.0]),
        ended_shown_s=rng.choice([0.0, 0.0, 30.0, 300.0]),
        ignores_labels=rng.random() < 0.1,
        reuses_ids=rng.random() < 0.2,
        inspect_error_rate=_rate(rng, 0.3),
    )


def _node_clocks(rng: random.Random, replicas: int | None) -> list[NodeClock]:
    drawn, skew_s = rng.choice([1, 3, 3, 3, 4, 5]), rng.choice([SKEW_S, SKEW_S, SKEW_S_MAX])
    return [
        NodeClock(
            rate=1.0 + rng.uniform(-DRIFT, DRIFT),
            offset_s=rng.uniform(0.0, 1e5),
            skew_s=rng.uniform(-1.0, 1.0) * skew_s,
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
        ids=[str(i) for i in logical_ids(rng.choice([1, 2, 3, 3, 4, 5]), 1 + 20 * number)],
        net=f"10.0.{1 + number}",
        updating={
            "MaxUnavailable": rng.choice([1, 1, 2, "30%"]),
            "MaxSurge": surge,
            "Settle": rng.choice(["0s", "10s", "30s"]),
            "OnFailure": rng.choice(["pause", "rollback"]),
            "DrainTimeout": rng.choice(["1s", "20s"]),
        }
        | rng.choice([{}, {}, {"Canary": 1, "BakeTime": "20s"}, {"ProgressDeadline": "60s"}]),
        healing={
            "BootGrace": rng.choice(["20s", "60s"]),
            "UnhealthyAfter": rng.choice(["5s", "30s"]),
            "Backoff": "2s",
            "BackoffMax": "60s",
        }
        | rng.choice([{}, {}, {"MaxUnhealthy": 1}, {"MaxUnhealthy": 2}, {"MaxUnhealthy": "50%"}]),
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
