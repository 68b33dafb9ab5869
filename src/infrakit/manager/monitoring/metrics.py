"""The metrics of one replica: leadership, the declaration, each group, action counts and call durations.

Labels are names of declared groups, of their plugins, and of event kinds and rules: their number is bounded by the
declaration, and they never contain text of an event, so no secret is exposed. Counters start at zero with the process,
histograms with the term; Prometheus handles such resets.
"""

import collections
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import infrakit
from infrakit.manager.api.manager import Operator
from infrakit.manager.lead.replica import Replica
from infrakit.manager.lead.term import Term
from infrakit.manager.monitoring.prometheus import Family, Labels
from infrakit.spi.event import Event, Kind
from infrakit.spi.manager import GroupStatus
from infrakit.spi.values import GroupID

FAILURES = (
    Kind.CREATE_FAILED,
    Kind.CREATE_UNKNOWN,
    Kind.DESTROY_FAILED,
    Kind.DRAIN_FAILED,
    Kind.OBSERVE_FAILED,
    Kind.THROTTLED,
    Kind.ERROR,
)
# Suffix, description and value of the metrics with one series for each group.
_OF_GROUPS: tuple[tuple[str, str, Callable[[GroupStatus], float]], ...] = (
    ("declared", "Instances that are declared.", lambda group: group.want),
    ("live", "Instances that exist, or may exist.", lambda group: group.live),
    ("healthy", "Instances proven healthy.", lambda group: group.healthy),
    ("up_to_date", "Instances of the declared version.", lambda group: group.up_to_date),
    ("converged", "Whether everything matches the declaration and is proven healthy.", lambda group: group.converged),
    ("halted", "Whether a halt by an operator blocks every change.", lambda group: group.halt is not None),
    (
        "observed_age_seconds",
        "Seconds since the last complete observation began; infinite before the first.",
        lambda group: math.inf if group.observed_age_s is None else group.observed_age_s,
    ),
)


class Counters:
    """Counts events on their way to the journal."""

    def __init__(self, emit: Callable[[Event], Any]) -> None:
        self._emit = emit
        self._counts: collections.Counter[tuple[GroupID | None, Kind]] = collections.Counter()

    def emit(self, event: Event) -> Any:
        """Satisfies `spi.event.Emit`."""
        self._counts[event.group, event.type] += 1
        return self._emit(event)

    def of(self, group: GroupID | None, kind: Kind) -> int:
        """The count since the process started; with `group` None, of events that belong to no group."""
        return self._counts[group, kind]

    def forget_all_but(self, groups: set[GroupID]) -> None:
        """Drop the counts of groups that are no longer declared."""
        for key in [key for key in self._counts if key[0] is not None and key[0] not in groups]:
            del self._counts[key]


async def families(replica: Replica, operator: Operator, counters: Counters) -> Sequence[Family]:
    """All metrics, as of now."""
    groups = (await operator.status()).groups
    declared = sorted(replica.declaration.record.groups)
    counters.forget_all_but(set(declared))
    return [
        *_of_replica(replica),
        *(
            _family(name, description, [(group, value(group)) for group in groups])
            for name, description, value in _OF_GROUPS
        ),
        _blocked(groups),
        *_of_events(declared, counters),
        *(_of_term(replica.term) if replica.term is not None else ()),
    ]


def _family(name: str, description: str, values: Sequence[tuple[GroupStatus, float]]) -> Family:
    return Family(
        f"infrakit_group_{name}", "gauge", description, [({"group": group.name}, value) for group, value in values]
    )


def _of_replica(replica: Replica) -> Iterator[Family]:
    def gauge(name: str, description: str, value: float, **labels: str) -> Family:
        return Family(f"infrakit_{name}", "gauge", description, [(labels, value)])

    term, known = replica.term, replica.valid_observation is not None
    python = platform.python_version()
    yield gauge(
        "build_info", "The version of InfraKit and Python; always 1.", 1, version=infrakit.__version__, python=python
    )
    yield gauge("leader", "Whether this replica leads and acts.", replica.active.is_set())
    yield gauge("epoch", "The epoch that this replica holds; 0 while it holds none.", term.ledger.epoch if term else 0)
    yield gauge("leadership_known", "Whether the last leadership observation of this replica is still valid.", known)
    yield gauge("declaration_version", "The newest version that this replica knows.", replica.declaration.version)
    yield gauge("halted", "Whether everything is halted.", replica.declaration.record.halt is not None)


def _blocked(groups: Sequence[GroupStatus]) -> Family:
    """Series for blocked actions only: there are many rules, and most of them block nothing."""
    found = collections.Counter((group.name, block.rule, block.verb) for group in groups for block in group.waiting)
    series = [({"group": g, "rule": rule, "verb": verb}, count) for (g, rule, verb), count in sorted(found.items())]
    return Family("infrakit_group_holds", "gauge", "Actions that wait or are refused, by rule.", series)


def _of_events(declared: Sequence[GroupID], counters: Counters) -> Iterator[Family]:
    def counter(name: str, description: str, kind: Kind) -> Family:
        series: list[tuple[Labels, float]] = [({"group": group}, counters.of(group, kind)) for group in declared]
        return Family(f"infrakit_{name}_total", "counter", description, series)

    yield counter("creations", "Instances that the provider has acknowledged.", Kind.CREATED)
    yield counter("destructions", "Destructions requested from the provider.", Kind.DESTROYING)
    yield counter("terminated", "Instances whose termination is confirmed, whatever its cause.", Kind.TERMINATED)
    failures: list[tuple[Labels, float]] = [
        ({"group": group or "", "kind": kind}, counters.of(group, kind))
        for group in (None, *declared)
        for kind in FAILURES
        if group is not None or kind is Kind.ERROR
    ]
    yield Family("infrakit_failures_total", "counter", "Failures, by kind of event.", failures)


def _of_term(term: Term) -> Iterator[Family]:
    """The metrics that only the leader has."""
    controllers = sorted(term.controllers.items())
    pending = [({"group": name}, len(each.view.pending)) for name, each in controllers]
    yield Family("infrakit_group_intents", "gauge", "Creations recorded and not settled.", pending)
    cycles = [({"group": name}, each.cycles) for name, each in controllers]
    yield Family("infrakit_cycle_seconds", "histogram", "Cycles, each from observing to acting.", cycles)
    accounts = {each.account.name: each.account for _, each in controllers}
    calls = [
        ({"plugin": name, "call": call}, durations)
        for name, account in sorted(accounts.items())
        for call, durations in account.call_durations.items()
    ]
    yield Family("infrakit_provider_call_seconds", "histogram", "Calls of instance plugins.", calls)
