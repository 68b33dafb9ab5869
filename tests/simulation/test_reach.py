"""The list of what no world reaches names lines that exist; `python -m tests.simulation.reach` measures the rest."""

from tests.simulation import reach


def test_every_unreached_line_exists() -> None:
    for file, listed in reach.UNREACHED.items():
        lines = [line.strip() for line in (reach.ROOT / file).read_text().splitlines()]
        stale = [words for words in listed if not any(line.startswith(words) for line in lines)]
        assert not stale, f"{file} has no line that starts with {stale}: remove them from UNREACHED"


def test_a_line_is_listed_by_its_first_words() -> None:
    assert reach.is_listed("gate/census.py", 'raise ValueError(f"{each} are too many slots")')
    assert not reach.is_listed("gate/census.py", "return tuple()")
    assert not reach.is_listed("group/plan/pets.py", "raise ValueError")
