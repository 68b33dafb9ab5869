"""Renders the template of a command line on this machine, in a sandbox (see `confinement`).

A document is a template if its name ends with `.j2` or `.tmpl`, or if one of the template options is given. Any other
document is used verbatim, so that a `{{ }}` in it is left for a later rendering: by a flavor, for each instance.

Errors in a rendered text are reported with the template line that produced them, because that is the line to fix. The
line of the rendered text is added in brackets.
"""

import contextlib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from infrakit.cli import failures
from infrakit.rpc import discovery
from infrakit.spi.errors import InfraKitError, InvalidSpec, Problem

if TYPE_CHECKING:
    from infrakit.template.engine import Engine
    from infrakit.template.scope import Scope
    from infrakit.template.values import Origin, Rendered, Template

SUFFIXES = (".j2", ".tmpl")


class Asked(NamedTuple):
    """The values of the options that `options.template` adds."""

    variables: tuple[str, ...] = ()  # NAME=VALUE
    files: tuple[str, ...] = ()  # files with variables
    env: tuple[str, ...] = ()  # names of the environment variables that the template may read
    is_template: bool = False  # treat the document as a template, whatever its name
    trust: bool = False  # templates from the network may read local files and secrets, too

    def renders(self, address: str) -> bool:
        """Whether the document at this address is a template."""
        path = urllib.parse.urlsplit(address).path if "://" in address else address
        return any(self) or path.endswith(SUFFIXES)


class Misplaced(InvalidSpec):
    """Problems of a rendered text, each with the template that produced its line."""

    def __init__(self, problems: Sequence[tuple[str, Problem]]) -> None:
        super().__init__([problem for _, problem in problems])
        self.wheres = [where for where, _ in problems]

    def __str__(self) -> str:
        pairs = zip(self.wheres, self.problems, strict=True)
        return "\n".join(f"{where}: {problem}" for where, problem in pairs)


def without_suffix(name: str) -> str:
    """The name of a template without its suffix: `boot.sh.j2` -> `boot.sh`."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def render(address: str, asked: Asked, *, trace: bool = False) -> "Rendered":
    """Renders the template at `address`. Raises `InvalidSpec`, or `ClickException` if an input is unavailable."""
    from infrakit.cli import confinement
    from infrakit.template.values import Rendered

    known = variables(asked)

    def work() -> Rendered:
        engine, template, scope = load(address, asked, known)
        rendered = engine.render(template, scope, trace=trace)
        _refuse_surrogates(rendered.text, template.name)
        return msgspec.structs.replace(
            rendered, exports={}
        )  # exports are for plugins; the command line needs only the text

    try:
        return confinement.run(work, Rendered)
    except InvalidSpec:
        raise
    except InfraKitError as error:
        raise click.ClickException(str(error)) from None


def _refuse_surrogates(text: str, name: str) -> None:
    """Raises `InvalidSpec` if the text has surrogates, which a Python string can hold and UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"line {text.count(chr(10), 0, error.start) + 1} of the rendered text holds half of a surrogate pair"
        raise InvalidSpec([Problem(path="", message=found, hint="it is not a character")], where=name) from None


def variables(asked: Asked) -> dict[str, object]:
    """The variables given on the command line, by path."""
    if not asked.variables and not asked.files:
        return {}
    from infrakit.cli import variables as given

    return given.flat(given.tree(asked.variables, asked.files))


def load(address: str, asked: Asked, known: Mapping[str, object]) -> "tuple[Engine, Template, Scope]":
    """Loads the template at `address`, with the engine and the scope to render it."""
    from infrakit.cli import facts
    from infrakit.template.engine import Engine
    from infrakit.template.loaders import Loader
    from infrakit.template.scope import Scope

    loader = Loader(
        trusts_network=asked.trust,
        sockets=lambda name: discovery.plugins_directory() / name,
        fetchers={"s3": _from_bucket},
    )
    engine = Engine(loader)
    scope = Scope(variables=known, env=frozenset(asked.env), facts=facts.FactsIfAny())
    return engine, engine.template(address), scope


def _from_bucket(address: str, timeout_s: float) -> bytes:
    from infrakit.clients import s3

    return s3.load(address, timeout_s)


@contextlib.contextmanager
def placed(origins: "Sequence[Origin | None]") -> Iterator[None]:
    """Within this context, errors in a rendered text are reported with the template lines that produced them."""
    try:
        yield
    except Exception as error:
        error = failures.cause(error)
        if not isinstance(error, InvalidSpec):
            raise
        raise Misplaced([place(problem, origins, error.where) for problem in error.problems]) from None


def place(problem: Problem, origins: "Sequence[Origin | None]", where: str) -> tuple[str, Problem]:
    """The template that produced a line of the rendered text, and the problem of that line at its place there."""
    line = problem.line
    origin = next((each for each in reversed(origins[: line or 0]) if each is not None), None)
    if line is None or origin is None:
        return where, problem
    hint = "; ".join(filter(None, (problem.hint, f"line {line} of the rendered text")))
    return origin.template, msgspec.structs.replace(problem, line=origin.line, hint=hint)
