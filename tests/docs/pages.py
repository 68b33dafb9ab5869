"""The pages of the documentation, and what is in them: fenced blocks, links and headings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
        *(ROOT / "docs").glob("**/*.md"),
        *(ROOT / "examples").glob("*/README.md"),
    ]
)
_HIDDEN = "hidden"  # the language of `<!-- test: COMMAND -->`: commands that a page does not show


class Block(NamedTuple):
    """One fenced block; `line` is where its text begins."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The file that the first line names, `# cluster.yaml`, or nothing."""
        found = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Every block, in order."""
    found = re.finditer(
        r"^```(?P<language>\w*)\n(?P<text>.*?)^```$|^<!-- test: (?P<hidden>[^\n]*) -->$",
        page.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    for each in found:
        line = page.read_text()[: each.start()].count("\n") + 2
        if each["hidden"]:
            yield Block(page, line - 1, _HIDDEN, f"$ {each['hidden']}\n")
        else:
            yield Block(page, line, each["language"], each["text"])


def prose(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """Targets of links and pictures."""
    for each in re.finditer(r"\]\(([^)\s]+)\)", prose(page)):
        yield each[1]


def anchors(page: Path) -> set[str]:
    """The targets of links into the page: its headings, as GitHub and MyST spell them."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
