"""Worlds with a theme: which seeds have one, that others are drawn without, and that the facts do coincide."""

import pytest

from infrakit.simulation import scenario, themes
from infrakit.simulation.__main__ import Task, simulate

SHOWN = {  # by theme: what a replica reports once the facts coincide
    "a machine without a name appears": "it has neither a logical ID nor a token",
    "several terminated pets run again": "must terminate first",
    "logical IDs move between groups": "has requested an instance with logical ID",
    "a second installation holds a volume": "of the cluster other holds: no second instance",
}


def seeds(theme: themes.Theme) -> list[int]:
    return [seed for seed in range(1, 501) if themes.of(seed) is theme]


def test_every_theme_has_as_many_of_the_first_seeds() -> None:
    assert {len(seeds(theme)) for theme in themes.THEMES} == {500 // themes.EVERY // len(themes.THEMES)}
    assert themes.of(themes.EVERY + 1) is None


def test_a_world_with_chosen_deeds_has_no_theme() -> None:
    drawn = scenario.draw(themes.EVERY, 2.0, ("scale",))
    assert {what for _, what, _ in drawn.operations} == {"scale"}


def test_the_deeds_of_a_theme_are_those_of_the_world() -> None:
    for number in range(len(themes.THEMES)):
        seed = themes.EVERY * (number + 1)
        theme, drawn = themes.of(seed), scenario.draw(seed, 2.0)
        assert theme is not None
        happens = sorted(what for _, what, _ in (*drawn.operations, *drawn.replica_faults))
        assert happens == sorted(what for _, _, what in theme.deeds)
        assert set(happens) <= {*scenario.DEEDS, *scenario.THEMED}
        assert [group.pets for group in drawn.groups] == [theme.pets] * theme.groups


def test_what_a_seed_has_drawn_for_later_happens_too() -> None:
    drawn = scenario.draw(themes.EVERY, 30.0)
    theme = themes.of(themes.EVERY)
    assert theme is not None
    assert [at for at, _, _ in drawn.operations if at >= themes.OVER_S]
    assert len([at for at, _, _ in drawn.operations if at < themes.OVER_S]) == len(theme.deeds)


def test_every_themed_deed_belongs_to_a_theme() -> None:
    used = {what for theme in themes.THEMES for _, _, what in theme.deeds}
    assert set(scenario.THEMED) <= used


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SHOWN)
def test_the_facts_coincide_in_some_world_of_the_theme(name: str) -> None:
    theme = next(each for each in themes.THEMES if name in each.name)
    for seed in seeds(theme):
        lines: list[str] = []
        assert simulate(Task(seed, 2.0), lines.append).verdict == "", f"seed {seed}"
        if any(SHOWN[name] in line for line in lines):
            return
    pytest.fail(f"no world of the theme reports {SHOWN[name]!r}")
