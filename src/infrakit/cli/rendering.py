"""A template that the command line was given, rendered on this machine, in a process with limits of its own.

What is rendered is asked for: a document is a template if its name ends with `.j2` or `.tmpl`, or if an option says so.
Any other is taken as it stands, so that `{{ }}` in it reaches whoever renders it later: a flavor, for each instance.

Whatever is wrong with a rendered text is told at the line of the template that it came from: that is what its author
can mend. The line of the text follows in brackets, for whoever looks at that.
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
    """What the options of `options.template` say."""

    variables: tuple[str, ...] = ()  # NAME=VALUE
    files: tuple[str, ...] = ()  # trees of variables
    env: tuple[str, ...] = ()  # names of what may be read of the environment
    is_template: bool = False  # whatever its name
    trust: bool = False  # templates from the network, too, may do what the operator may

    def renders(self, address: str) -> bool:
        """Whether the document at this address is a template."""
        path = urllib.parse.urlsplit(address).path if "://" in address else address
        return any(self) or path.endswith(SUFFIXES)


class Misplaced(InvalidSpec):
    """Problems of a rendered text, each with the template that it came from."""

    def __init__(self, problems: Sequence[tuple[str, Problem]]) -> None:
        super().__init__([problem for _, problem in problems])
        self.wheres = [where for where, _ in problems]

    def __str__(self) -> str:
        pairs = zip(self.wheres, self.problems, strict=True)
        return "\n".join(f"{where}: {problem}" for where, problem in pairs)


def without_suffix(name: str) -> str:
    """The name of what a template renders to: `boot.sh.j2` -> `boot.sh`."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def render(address: str, asked: Asked, *, trace: bool = False) -> "Rendered":
    """The template at `address`, rendered. Raises `InvalidSpec` and, for what cannot be had, `ClickException`."""
    from infrakit.cli import confinement
    from infrakit.template.values import Rendered

    known = variables(asked)

    def work() -> Rendered:
        engine, template, scope = load(address, asked, known)
        rendered = engine.render(template, scope, trace=trace)
        _refuse_surrogates(rendered.text, template.name)
        return msgspec.structs.replace(rendered, exports={})  # they are the business of a plugin, and no text

    try:
        return confinement.run(work, Rendered)
    except InvalidSpec:
        raise
    except InfraKitError as error:
        raise click.ClickException(str(error)) from None


def _refuse_surrogates(text: str, name: str) -> None:
    """Python's text can hold what no encoding of text can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"line {text.count(chr(10), 0, error.start) + 1} of what is rendered holds half of a surrogate pair"
        raise InvalidSpec([Problem(path="", message=found, hint="that is no character")], where=name) from None


def variables(asked: Asked) -> dict[str, object]:
    """Those that were given, by their paths."""
    if not asked.variables and not asked.files:
        return {}
    from infrakit.cli import variables as given

    return given.flat(given.tree(asked.variables, asked.files))


def load(address: str, asked: Asked, known: Mapping[str, object]) -> "tuple[Engine, Template, Scope]":
    """The template at `address`, and all that it is rendered with."""
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
    """Tell what is wrong with a rendered text, here inside, at its places in the templates."""
    try:
        yield
    except Exception as error:
        error = failures.cause(error)
        if not isinstance(error, InvalidSpec):
            raise
        raise Misplaced([place(problem, origins, error.where) for problem in error.problems]) from None


def place(problem: Problem, origins: "Sequence[Origin | None]", where: str) -> tuple[str, Problem]:
    """A problem of a line of the rendered text, and the template to mend."""
    line = problem.line
    origin = next((each for each in reversed(origins[: line or 0]) if each is not None), None)
    if line is None or origin is None:
        return where, problem
    hint = "; ".join(filter(None, (problem.hint, f"line {line} of what is rendered")))
    return origin.template, msgspec.structs.replace(problem, line=origin.line, hint=hint)
