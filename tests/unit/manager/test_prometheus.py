"""The rendered metrics are what Prometheus reads: its own client library parses them."""

import math

from prometheus_client.parser import text_string_to_metric_families

from infrakit.group.durations import BOUNDS_S, Durations
from infrakit.manager.monitoring.prometheus import Family, render


def test_values_and_labels_are_parsed_unchanged() -> None:
    nasty = 'a "quoted" back\\slash\nand a line {more="x"} 1'
    series: list[tuple[dict[str, str], float]] = [
        ({"group": nasty, "kind": ""}, 2),
        ({"group": "ü"}, 0.25),
        ({}, math.inf),
        ({"group": "big"}, 1e300),
        ({"group": "yes"}, True),
    ]
    (read,) = text_string_to_metric_families(render([Family("infrakit_x", "gauge", "Told.", series)]))
    assert (read.name, read.type, read.documentation) == ("infrakit_x", "gauge", "Told.")
    assert [(sample.labels, sample.value) for sample in read.samples] == series


def test_a_family_without_series_is_left_out() -> None:
    assert render([Family("infrakit_x", "gauge", "Told.", [])]) == ""


def test_histogram_buckets_include_their_upper_bound() -> None:
    durations = Durations()
    for took_s in (0.0, BOUNDS_S[0], BOUNDS_S[0] * 1.001, BOUNDS_S[-1], BOUNDS_S[-1] + 1):
        durations.add(took_s)
    (read,) = text_string_to_metric_families(
        render([Family("infrakit_s", "histogram", "Told.", [({"g": "w"}, durations)])])
    )
    buckets = [(s.labels["le"], s.value) for s in read.samples if s.name.endswith("_bucket")]
    assert [float(bound) for bound, _ in buckets] == [*BOUNDS_S, math.inf]
    assert [count for _, count in buckets] == [2, *[3] * (len(BOUNDS_S) - 2), 4, 5]
    assert {s.name: s.value for s in read.samples if not s.name.endswith("_bucket")} == {
        "infrakit_s_sum": durations.total_s,
        "infrakit_s_count": 5,
    }
