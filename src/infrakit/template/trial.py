"""A template tried before it is needed: everything that is surely wrong with it, and nothing that may yet be right.

It is rendered for an example. What it asks of the metadata may come later than that: without a daemon nothing is known,
a plugin may be away, something may be waited for. Then values of every kind are assumed in its place, one after the
other, and a mistake is what is wrong with all of them.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from infrakit.spi import errors
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.metadata import Facts
from infrakit.template.engine import Engine
from infrakit.template.scope import Scope
from infrakit.template.values import Template

_ASSUMPTIONS: tuple[object, ...] = ("example", 7, {}, [])  # of each kind that metadata can be


def problems(
    engine: Engine, template: Template, functions: Mapping[str, object], facts: Facts | None
) -> tuple[Problem, ...]:
    """What is wrong, whatever the metadata that is missing now may come to be; lines stand in the messages."""
    outcomes = set()
    for assumption in _ASSUMPTIONS:
        found = _assuming(assumption, engine, template, functions, facts)
        if not found:
            return ()
        outcomes.add(found)
    return outcomes.pop() if len(outcomes) == 1 else ()


def problems_of(error: errors.InfraKitError) -> tuple[Problem, ...]:
    """As problems of a declaration. A line of a template is none of the declaration, so it moves into the message."""
    if not isinstance(error, InvalidSpec):
        where = f"{error.where}: " if error.where else ""
        return (Problem(path="", message=f"{where}{error.what}", hint=error.remedy),)
    found = []
    for each in error.problems:
        line = f"line {each.line}" if each.line is not None else ""
        where = ", ".join(filter(None, (error.where, line)))
        found.append(Problem(path="", message=f"{where}: {each.message}" if where else each.message, hint=each.hint))
    return tuple(found)


def _assuming(
    assumption: object, engine: Engine, template: Template, functions: Mapping[str, object], facts: Facts | None
) -> tuple[Problem, ...]:
    """Rendered with the metadata that is there; if that fails, with the assumption in the place of what is not."""
    assumed: dict[str, object] = {}
    while True:
        known = Known(facts, assumed)
        try:
            engine.render(template, Scope(functions=functions, facts=known))
        except errors.InfraKitError as error:
            if not known.missing - assumed.keys():
                return problems_of(error)
            assumed |= dict.fromkeys(known.missing, assumption)
        else:
            return ()


class Known:
    """Satisfies `Facts` while nothing is prepared yet: it never waits.

    `missing` are the paths that were asked for and may still come: all of them without a daemon, and with one those
    of a plugin that is away, and those that are waited for. `assumed` stands in the place of some.
    """

    def __init__(self, facts: Facts | None, assumed: Mapping[str, object]) -> None:
        self._facts = facts
        self._assumed = assumed
        self.missing: set[str] = set()

    def keys(self, path: str) -> Sequence[str] | None:
        try:
            return self._facts.keys(path) if self._facts is not None else None
        except errors.Unreachable:
            return None

    def get(self, path: str) -> object:
        return self._read(path, may_come=self._facts is None)

    def wait(self, path: str, timeout_s: float) -> object:  # noqa: ARG002
        found = self._read(path, may_come=True)
        return self._later(path) if found is None else found

    def _read(self, path: str, *, may_come: bool) -> object:
        if path in self._assumed:
            return self._assumed[path]
        try:
            if self._facts is not None:
                return self._facts.get(path)
        except errors.Unreachable:
            may_come = True
        except errors.NotFound:
            if not may_come:
                raise
        return self._later(path)

    def _later(self, path: str) -> NoReturn:
        self.missing.add(path)
        raise errors.NotFound("it is not known before an instance is prepared", where=f"metadata {path}")
