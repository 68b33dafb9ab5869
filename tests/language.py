"""Words that this project once used for the field's terms: where they still occur in text for people.

Text for people is a string, a comment or a docstring of the source, and every page. `python -m tests.language` prints
each place, `python -m tests.language src/infrakit/group` those below a directory, and `--counts` the allow-list.
"""

import collections
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

# The word, and what an operator searches for instead.
DIALECT = {
    r"tells?|telling|told": "report, return, emit, log, announce, explain, send",
    r"says?|said|saying": "report, print, state, read; of a document: declare",
    r"somebody|nobody|whoever|everybody|anybody": "the operator, another process, the caller, users, no process",
    r"looks?|looked|looking": "observe, poll, list, check, read; next check",
    r"hears?|heard|meets?|met": "receive, observe; resolve, find",
    r"stumbl\w+|forgiv\w+|mend\w*": "fail, reset, fix",
    r"graves?|corpses?|strangers?|predecessors?|mishaps?|errands?": "logs of terminated instances, unmanaged, previous",
    r"go(es)? on|going on|takes? up|taken up|took up": "continue, keep running, accept",
    r"made again|turned away|proven gone|proven dead": "recreated, rejected, termination confirmed",
    r"a roll|the roll|rolls": "a rolling update, a rollout",
    r"under way|for ever|in doubt|all the same": "in progress, forever, not certain, nevertheless",
    r"bears|borne|bearers|corpse|sick|dies": "has, unhealthy, terminates",
}
_WORDS = re.compile(rf"\b({'|'.join(f'(?:{pattern})' for pattern in DIALECT)})\b", re.IGNORECASE)


class Found(NamedTuple):
    """One occurrence."""

    path: str
    line: int
    word: str
    text: str


def text_for_people(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of each string and comment of a program, or of each line of a page."""
    text = path.read_text()
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            yield from enumerate(token.string.splitlines(), token.start[0])


def occurrences(paths: Iterable[Path]) -> Iterator[Found]:
    """Every word of the dialect in these files."""
    for path in paths:
        for line, text in text_for_people(path):
            for match in _WORDS.finditer(text):
                yield Found(path.relative_to(ROOT).as_posix(), line, match[0].lower(), text.strip())


def files() -> list[Path]:
    """What users and contributors read: the source, the pages, the examples."""
    suffixes = {".py", ".md", ".j2", ".yaml", ".html", ".sh"}
    places = ("src", "docs", "examples", "benchmarks")
    below = [path for place in places for path in (ROOT / place).rglob("*") if path.suffix in suffixes]
    single = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile")]
    return sorted([*below, *single])


def counts(found: Iterable[Found]) -> dict[str, int]:
    """How many there are in each file."""
    return dict(sorted(collections.Counter(each.path for each in found).items()))


def main(arguments: list[str]) -> None:
    """Print the places, or with `--counts` the number in each file."""
    below = tuple(each for each in arguments if not each.startswith("-"))
    found = [each for each in occurrences(files()) if not below or each.path.startswith(below)]
    for each in [] if "--counts" in arguments else found:
        print(f"{each.path}:{each.line}: {each.word}: {each.text}")
    for path, number in counts(found).items() if "--counts" in arguments else ():
        print(f"{path}: {number}")
    print(f"{len(found)} occurrences")


if __name__ == "__main__":
    main(sys.argv[1:])
