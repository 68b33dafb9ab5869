"""The field's own words: the number of words of this project's earlier dialect only decreases."""

import json
from pathlib import Path

import pytest

from tests import language

ALLOWED = Path(__file__).with_name("language.json")  # how many words of the dialect each file may still hold
TOTAL_MAX = 60


def test_no_file_has_more_words_of_the_dialect_than_allowed() -> None:
    allowed = json.loads(ALLOWED.read_text())
    found = list(language.occurrences(language.files()))
    more = {path: number for path, number in language.counts(found).items() if number > allowed.get(path, 0)}
    words = [f"{each.path}:{each.line}: {each.word}: {each.text}" for each in found if each.path in more]
    assert not more, "see tests/language.py for the field's words:\n" + "\n".join(words)


def test_the_allow_list_shrinks() -> None:
    """A file that is translated lowers its number, so that no word comes back."""
    allowed = json.loads(ALLOWED.read_text())
    now = language.counts(language.occurrences(language.files()))
    assert {path: number for path, number in allowed.items() if number > now.get(path, 0)} == {}
    assert sum(allowed.values()) <= TOTAL_MAX


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.py", 'def tell():\n    """Nobody looks here."""\n', ["nobody", "looks"]),
        ("b.py", "look = 1  # it says so\n", ["says"]),
        ("c.py", "x = f'told {n}'\n", ["told"]),
        ("d.md", "It goes on,\nand the roll stops.\n", ["goes on", "the roll"]),
        ("e.md", "The rolling update continues; look-up tables are read.\n", ["look"]),
        ("f.py", "intelligible = 'told-you'\n", ["told"]),
    ],
)
def test_words_are_found_in_text_and_not_in_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    monkeypatch.setattr(language, "ROOT", tmp_path)
    path = tmp_path / name
    path.write_text(text)
    assert [each.word for each in language.occurrences([path])] == words
