"""Renders the text that Prometheus scrapes: version 0.0.4 of its exposition format, <https://prometheus.io/docs/instrumenting/>.

Each family of series has a line for its help, one for its type, then one for each series. This part of the format is
all we need. Unlike the client library, it holds no state: each scrape reads the values from the replica.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from infrakit.group.durations import BOUNDS_S, Durations

MEDIA = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


class Family(NamedTuple):
    """All series of one name. Their values are numbers, or durations in a histogram."""

    name: str
    kind: str  # gauge counter histogram
    description: str  # one sentence, for the HELP line
    series: Iterable[tuple[Labels, float | Durations]]


def render(families: Iterable[Family]) -> str:
    """Render all families as one text; a family without series is omitted."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    lines = [line for labels, value in family.series for line in _series(family.name, labels, value)]
    if lines:
        yield f"# HELP {family.name} {family.description}"
        yield f"# TYPE {family.name} {family.kind}"
        yield from lines


def _series(name: str, labels: Labels, value: float | Durations) -> Iterator[str]:
    if not isinstance(value, Durations):
        yield f"{name}{_labels(labels)} {_number(value)}"
        return
    below = list(itertools.accumulate(value.counts))
    for bound, count in zip((*BOUNDS_S, math.inf), below, strict=True):
        yield f"{name}_bucket{_labels({**labels, 'le': _number(bound)})} {count}"
    yield f"{name}_sum{_labels(labels)} {_number(value.total_s)}"
    yield f"{name}_count{_labels(labels)} {below[-1]}"


def _labels(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else str(int(value)) if value == int(value) else repr(value)
