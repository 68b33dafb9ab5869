"""The oracle reports what faults do to code that does not resist them: a rule is taken out, and worlds must fail."""

import msgspec
import pytest

from infrakit.simulation import __main__ as program
from infrakit.simulation import scenario
from tests.simulation.weaknesses import WEAKNESSES, Weakness

SEEDS_MAX = 60


@pytest.mark.timeout(120)
@pytest.mark.parametrize("weakness", WEAKNESSES, ids=lambda each: each.name)
def test_a_few_worlds_reveal_a_weakness(weakness: Weakness, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, replacement in weakness.rules:
        assert hasattr(owner, name)
        monkeypatch.setattr(owner, name, replacement)
    seed = _revealing_seed(weakness)
    assert seed, "no world revealed it"
    monkeypatch.undo()
    assert program.play(_drawn(weakness, seed)).verdict == ""


def _drawn(weakness: Weakness, seed: int) -> scenario.Scenario:
    drawn = scenario.draw(seed, weakness.minutes, weakness.deeds, weakness.replicas)
    drawn.faults = msgspec.structs.replace(drawn.faults, **weakness.faults)
    drawn.cloud = msgspec.structs.replace(drawn.cloud, **weakness.cloud)
    drawn.inspects = drawn.inspects or weakness.inspects or weakness.watches
    drawn.watches = drawn.watches or weakness.watches
    drawn.parts = drawn.parts or weakness.parts
    return drawn


def _revealing_seed(weakness: Weakness) -> int:
    for seed in range(1, SEEDS_MAX + 1):
        drawn = _drawn(weakness, seed)
        if weakness.own_node and not drawn.own_node:
            continue
        if program.play(drawn).verdict.startswith(weakness.laws):
            return seed
    return 0
