"""Generates the files that packages install beside the program: man pages and shell completions.

The man pages are the sections of the reference in the format of man(7): tables become lists, because a table of four
columns does not fit a terminal with 80. `docs/generate.py` runs this; a test fails if a file is out of date.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import generate
from click.testing import CliRunner

import infrakit
from infrakit.cli import main as cli

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
EXAMPLE = """\
- kind: group
  metadata: {name: workers}
  properties:
    Allocation: {Size: 3}
    Instance: {Plugin: local}
    Flavor:
      Plugin: vanilla
      Properties: {Init: exec sleep infinity}
"""
SHELLS = ("bash", "fish", "zsh")


def render() -> dict[Path, str]:
    """Render each file."""
    texts = {
        PACKAGING / "man/infrakit.1": _page("infrakit", 1, "declarative, self-healing infrastructure", _commands()),
        PACKAGING / "man/infrakit.yaml.5": _page("infrakit.yaml", 5, "declaration of groups of nodes", _document()),
    }
    for shell in SHELLS:
        done = CliRunner().invoke(cli.commands, ["completion", shell], catch_exceptions=False)
        texts[PACKAGING / f"completions/infrakit.{shell}"] = done.output.strip() + "\n"
    return texts


def write() -> None:
    """Write all files."""
    for path, text in render().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _page(name: str, section: int, about: str, parts: Iterable[str]) -> str:
    """Render a page, with the header of every man page."""
    head = (
        f'.\\" Generated from the code by docs/generate.py.\n'
        f'.TH {name.upper()} {section} "" "InfraKit {infrakit.__version__}" "InfraKit"\n'
        f".SH NAME\n{name} \\- {about}\n"
    )
    body = "\n".join(line for part in parts for line in _roff(part)) + "\n"
    return head + re.sub(r"^(\.S[HS] .*)\n\.PP$", r"\1", body, flags=re.MULTILINE)


def _commands() -> Iterator[str]:
    yield "## Synopsis\n\n`infrakit` *COMMAND* [*OPTIONS*] [*ARGUMENTS*]\n\n`infrakit` *COMMAND* `--help`"
    text, example = generate.help_of(cli.commands)
    yield (
        f"## Description\n\n{text}\n\nInfraKit compares the groups of nodes that a document declares (see "
        "`infrakit.yaml`(5)) with what the providers list, and creates, heals, scales and replaces instances.\n\n"
        f"```sh\n{example}\n```"
    )
    yield from generate.commands()
    yield from generate.exit_codes_table()
    yield "## Environment"
    yield _variables()
    yield (
        "## Files\n\n| file | meaning |\n| --- | --- |\n"
        "| `~/.infrakit` | State of the daemon, or the directory in INFRAKIT_HOME. |\n"
        "| `/var/lib/infrakit` | State of the daemon, for the systemd service. |\n"
        "| `/etc/infrakit/infrakit.env` | Environment of the systemd service. |"
    )
    yield _see_also("`infrakit.yaml`(5)")


def _document() -> Iterator[str]:
    yield (
        "## Description\n\nA declaration defines groups of nodes. `infrakit up` and `infrakit commit` "
        "read it, `infrakit validate` checks it. Fields are listed with their type and their default."
    )
    yield from generate.declaration()
    yield from generate.plugins()
    yield f"## Example\n\nThree processes, each restarted when it terminates:\n\n```yaml\n{EXAMPLE}```"
    yield _see_also("`infrakit`(1)")


def _see_also(page: str) -> str:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    return f"## See also\n\n{page}, {urls['Documentation']}"


def _variables() -> str:
    """Return the table of variables in the guide, which a test compares with the code."""
    guide = (ROOT / "docs/guide.md").read_text()
    table = guide.partition("| variable | meaning | default |\n| --- | --- | --- |\n")[2].partition("\n\n")[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
    rows = [f"|{name}|{default}|{meaning}|" for name, meaning, default in cells]
    return "\n".join(("| variable | default | meaning |", "| --- | --- | --- |", *rows))


# -- man(7) ----------------------------------------------------------------------------------------------------------


def _roff(text: str) -> Iterator[str]:
    """Convert the blocks of the reference: headings, tables, code, paragraphs."""
    for block in re.split(r"\n\n(?=\S)", text.strip("\n")):
        heading, _, rest = block.partition("\n")
        if block.startswith("### "):
            yield f".SS {_inline(heading[4:])}"
        elif block.startswith("## "):
            yield f".SH {_inline(heading[3:]).upper()}"
        elif block.startswith("```"):
            yield from (".PP", ".RS 4", ".EX", *map(_literal, block.splitlines()[1:-1]), ".EE", ".RE")
            continue
        elif block.startswith("| "):
            yield from _list(block.splitlines())
            continue
        else:
            yield from (".PP", *_sentences(block))
            continue
        if rest:
            yield from _roff(rest)


def _list(lines: list[str]) -> Iterator[str]:
    """Convert a table to a list: terms from the first column, text from the last, other columns beside the term."""
    columns, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    for term, *cells in rows:
        *between, meaning = cells
        beside = [
            f"{column} {cell}" if column == "default" and cell != "required" else cell
            for column, cell in zip(columns[1:], between, strict=False)
            if cell
        ]
        yield from (".TP", _inline(term) + (f" ({_inline(', '.join(beside))})" if beside else ""))
        yield from _sentences(meaning) if meaning else ("\\&",)


def _sentences(text: str) -> Iterator[str]:
    """Yield one line per sentence, as man(7) requires for correct spacing."""
    flowing = re.sub(r"\s*\n\s*", " ", text.strip())
    for sentence in re.split(r"(?<=[a-z`)][.:]) (?=[A-Z`])", flowing):
        yield _protected(_inline(sentence))


def _inline(text: str) -> str:
    """Convert inline markup: code to bold, placeholders to italics, links to their text."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text.replace("\\|", "|"))
    parts = re.split(r"(`[^`]+`|\*[A-Za-z]+\*)", text)
    return "".join(_styled(part) for part in parts)


def _styled(part: str) -> str:
    if part.startswith("`"):
        return f"\\fB{_escaped(part.strip('`'))}\\fR"
    if re.fullmatch(r"\*[A-Za-z]+\*", part):
        return f"\\fI{part.strip('*')}\\fR"
    return _escaped(part)


def _literal(line: str) -> str:
    return _protected(_escaped(line))


def _escaped(text: str) -> str:
    """Escape special characters; hyphens become minus signs, so that copied commands work."""
    for sign, name in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq"), ("^", "\\(ha"), ("~", "\\(ti"), ("`", "\\(ga")):
        text = text.replace(sign, name)
    return text


def _protected(line: str) -> str:
    """Protect a line that begins with a dot, which would be an instruction."""
    return f"\\&{line}" if line.startswith((".", "\\(aq")) else line
