"""Renders the template of a command line on this machine, in a sandbox (see `confinement`).

A document is a template if its name ends with `.j2` or `.tmpl`, or if one of the template options is given. Any other
document is used verbatim, so that a `{{ }}` in it is left for a later rendering: by a flavor, for each instance.

Errors in a rendered text are reported with the template line that produced them, because that is the line to fix. The
line of the rendered text is added in brackets.
"""

import contextlib
import re
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
_OF_FLAVORS = {  # names of boot scripts, and the options that supply an example of each
    "spec": "--var spec/Tags/NAME=VALUE, or --vars FILE",
    "logical_id": "--var logical_id=NAME",
    "index": "--var index/group=NAME --var index/sequence=1",
    "allocation": "--var allocation/size=3",
    "tags": "--var tags/NAME=VALUE",
    "attachments": "--vars FILE, with a list attachments of id and type",
}


class TemplateOptions(NamedTuple):
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


class RenderedProblems(InvalidSpec):
    """Problems of a rendered text, each with the template that produced its line."""

    def __init__(self, problems: Sequence[tuple[str, Problem]]) -> None:
        super().__init__([problem for _, problem in problems])
        self.wheres = [where for where, _ in problems]

    def __str__(self) -> str:
        pairs = zip(self.wheres, self.problems, strict=True)
        return "\n".join(f"{where}: {problem}" for where, problem in pairs)


def without_suffix(name: str) -> str:
    """Return the name of a template without its suffix: `boot.sh.j2` -> `boot.sh`."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def render(address: str, template_options: TemplateOptions, *, trace: bool = False) -> "Rendered":
    """Render the template at `address`. Raises `InvalidSpec`, or `ClickException` if an input is unavailable."""
    from infrakit.cli import confinement
    from infrakit.template.values import Rendered

    known = variables(template_options)

    def work() -> Rendered:
        engine, template, scope = load(address, template_options, known)
        rendered = engine.render(template, scope, trace=trace)
        _refuse_surrogates(rendered.text, template.name)
        # exports are for plugins; the command line needs only the text
        return msgspec.structs.replace(rendered, exports={})

    try:
        return confinement.run(work, Rendered)
    except InvalidSpec as error:
        raise InvalidSpec([_with_boot_hint(each) for each in error.problems], where=error.where) from None
    except InfraKitError as error:
        raise click.ClickException(str(error)) from None


def _with_boot_hint(problem: Problem) -> Problem:
    """Add the options that supply a name which only a flavor defines, when it renders a boot script."""
    named = re.fullmatch(r"'(\w+)' is not defined", problem.message)
    if named is None or named[1] not in _OF_FLAVORS:
        return problem
    hint = f"a boot script gets it from its flavor; here: {_OF_FLAVORS[named[1]]}"
    return msgspec.structs.replace(problem, hint=hint)


def _refuse_surrogates(text: str, name: str) -> None:
    """Raise `InvalidSpec` if the text has surrogates, which a Python string can hold and UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"line {text.count(chr(10), 0, error.start) + 1} of the rendered text holds half of a surrogate pair"
        raise InvalidSpec([Problem(path="", message=found, hint="it is not a character")], where=name) from None


def variables(template_options: TemplateOptions) -> dict[str, object]:
    """Return the variables given on the command line, by path."""
    if not template_options.variables and not template_options.files:
        return {}
    from infrakit.cli import variables as given

    return given.flat(given.tree(template_options.variables, template_options.files))


def load(
    address: str, template_options: TemplateOptions, known: Mapping[str, object]
) -> "tuple[Engine, Template, Scope]":
    """Load the template at `address`, with the engine and the scope to render it."""
    from infrakit.cli import facts
    from infrakit.template.engine import Engine
    from infrakit.template.loaders import Loader
    from infrakit.template.scope import Scope

    loader = Loader(
        trusts_network=template_options.trust,
        sockets=lambda name: discovery.plugins_directory() / name,
        fetchers={"s3": _from_bucket},
    )
    engine = Engine(loader)
    scope = Scope(variables=known, env=frozenset(template_options.env), facts=facts.OptionalFacts())
    return engine, engine.template(address), scope


def _from_bucket(address: str, timeout_s: float) -> bytes:
    from infrakit.clients import s3

    return s3.load(address, timeout_s)


@contextlib.contextmanager
def errors_located(origins: "Sequence[Origin | None]") -> Iterator[None]:
    """Report errors in a rendered text with the template lines that produced them."""
    try:
        yield
    except Exception as error:
        error = failures.cause(error)
        if not isinstance(error, InvalidSpec):
            raise
        raise RenderedProblems([locate(problem, origins, error.where) for problem in error.problems]) from None


def locate(problem: Problem, origins: "Sequence[Origin | None]", where: str) -> tuple[str, Problem]:
    """Return the template that produced the line of a problem, and the problem with its line in that template."""
    line = problem.line
    origin = next((each for each in reversed(origins[: line or 0]) if each is not None), None)
    if line is None or origin is None:
        return where, problem
    hint = "; ".join(filter(None, (problem.hint, f"line {line} of the rendered text")))
    return origin.template, msgspec.structs.replace(problem, line=origin.line, hint=hint)
