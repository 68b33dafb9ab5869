"""The alert rules and their page use only existing metrics and labels, and every metric is documented."""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from infrakit.spi.values import GroupID
from tests.docs.pages import ROOT
from tests.stage import cattle, in_virtual_time
from tests.unit.manager.test_metrics import MeteredStage

ALERTS = ROOT / "docs/operations/alerts.yaml"
PAGE = ROOT / "docs/operations/monitoring.md"
ADDED_LABELS = {"job", "instance"}  # labels that Prometheus adds


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """Every series that a replica can expose, by name, with the names of its labels."""
    found: dict[str, set[str]] = {}

    @in_virtual_time
    async def collect() -> None:
        async with MeteredStage() as stage:
            await stage.commit(cattle("web", 2))
            await stage.converged()
            await stage.operator.halt(group=GroupID("web"), who="ann", why="so that something is held")
            stage.kill("web", "1")
            await stage.until(lambda: stage.controller("web").plan.blocked)
            for family in text_string_to_metric_families(await stage.text()):
                for sample in family.samples:
                    found.setdefault(sample.name, set()).update(sample.labels)

    collect()
    return found


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(ALERTS.read_text())
    assert document.keys() == {"groups"}
    return [rule for group in document["groups"] for rule in group["rules"]]


def subexpressions(node: Any) -> Iterator[Any]:
    """An expression and all its subexpressions."""
    yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from subexpressions(inner)
    for inner in getattr(node, "args", None) or ():
        yield from subexpressions(inner)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_uses_only_existing_metrics_and_labels(rule: dict[str, Any], series: dict[str, set[str]]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "action"}
    assert re.fullmatch(r"\d+[mhd]", rule.get("for", "1m"))
    parts = list(subexpressions(promql_parser.parse(rule["expr"])))
    selected = [part for part in parts if isinstance(part, promql_parser.VectorSelector)]
    assert len(selected) == rule["expr"].count('{job="infrakit"')
    labels = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    for part in parts:
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            labels |= set(part.modifier.labels)
    for selector in selected:
        assert selector.name is not None
        assert selector.name in {"up", *series}
        labels |= {matcher.name for matcher in selector.matchers.matchers}
    assert labels <= ADDED_LABELS.union(*(series.get(str(selector.name), set()) for selector in selected))


def test_the_page_explains_exactly_the_existing_rules() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    assert set(re.findall(r"`(InfraKit\w+)`", PAGE.read_text())) == set(names)


def test_every_metric_is_documented_with_its_labels(series: dict[str, set[str]]) -> None:
    rows = re.findall(r"^\| `(infrakit_\w+)` \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    explained = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    existing: dict[str, set[str]] = {}
    for name, labels in series.items():
        existing.setdefault(re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", name), set()).update(labels - {"le"})
    assert explained == existing


def test_the_configuration_of_prometheus_names_the_rules() -> None:
    configured = yaml.safe_load((ROOT / "docs/operations/prometheus.yaml").read_text())
    assert configured["rule_files"] == [ALERTS.name]
    (job,) = configured["scrape_configs"]
    assert {rule["expr"].count(f'job="{job["job_name"]}"') > 0 for rule in rules()} == {True}


@pytest.mark.parametrize(
    "wrong", ['sum(infrakit_leader{job="infrakit"}', "infrakit_leader ==", "changes(infrakit_leader)"]
)
def test_an_invalid_rule_is_rejected(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        promql_parser.parse(wrong)
