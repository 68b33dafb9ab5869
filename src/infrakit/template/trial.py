"""Trial rendering of a template at commit, without false positives: it reports only what is wrong in any case.

A template is rendered for an example. Metadata may be missing at that time: no daemon runs, a plugin is unavailable, or
a value appears later. The trial is then repeated with an assumed value of each kind in place of the missing one, and
reports a problem only if it occurs with all of them.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from infrakit.spi import errors
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.metadata import Facts
from infrakit.template.engine import Engine
from infrakit.template.scope import Scope
from infrakit.template.values import Template

_ASSUMPTIONS: tuple[object, ...] = ("example", 7, {}, [])  # one of each kind of metadata


def problems(
    engine: Engine, template: Template, functions: Mapping[str, object], facts: Facts | None
) -> tuple[Problem, ...]:
    """Return the problems that occur whatever the missing metadata will be. The messages contain the lines."""
    outcomes = set()
    for assumption in _ASSUMPTIONS:
        found = _problems_assuming(assumption, engine, template, functions, facts)
        if not found:
            return ()
        outcomes.add(found)
    return outcomes.pop() if len(outcomes) == 1 else ()


def problems_of(error: errors.InfraKitError) -> tuple[Problem, ...]:
    """Convert an error to problems of a declaration, whose messages contain the line of the template."""
    if not isinstance(error, InvalidSpec):
        where = f"{error.where}: " if error.where else ""
        return (Problem(path="", message=f"{where}{error.what}", hint=error.remedy),)
    found = []
    for each in error.problems:
        line = f"line {each.line}" if each.line is not None else ""
        where = ", ".join(filter(None, (error.where, line)))
        found.append(Problem(path="", message=f"{where}: {each.message}" if where else each.message, hint=each.hint))
    return tuple(found)


def _problems_assuming(
    assumption: object, engine: Engine, template: Template, functions: Mapping[str, object], facts: Facts | None
) -> tuple[Problem, ...]:
    """Render with the existing metadata; while values are missing, again with the assumption in their place."""
    assumed: dict[str, object] = {}
    while True:
        trial_facts = TrialFacts(facts, assumed)
        try:
            engine.render(template, Scope(functions=functions, facts=trial_facts))
        except errors.InfraKitError as error:
            if not trial_facts.missing - assumed.keys():
                return problems_of(error)
            assumed |= dict.fromkeys(trial_facts.missing, assumption)
        else:
            return ()


class TrialFacts:
    """Facts for a trial. Satisfies `Facts`, but never waits.

    `missing` collects the requested paths that do not exist but may appear later: without a daemon all of them, else
    those of an unavailable plugin and those in `metadata.wait`. `assumed` contains values for some of them.
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
        return self._read(path, may_appear=self._facts is None)

    def wait(self, path: str, timeout_s: float) -> object:  # noqa: ARG002
        found = self._read(path, may_appear=True)
        return self._not_known_yet(path) if found is None else found

    def _read(self, path: str, *, may_appear: bool) -> object:
        if path in self._assumed:
            return self._assumed[path]
        try:
            if self._facts is not None:
                return self._facts.get(path)
        except errors.Unreachable:
            may_appear = True
        except errors.NotFound:
            if not may_appear:
                raise
        return self._not_known_yet(path)

    def _not_known_yet(self, path: str) -> NoReturn:
        self.missing.add(path)
        raise errors.NotFound("its value is unknown until an instance is prepared", where=f"metadata {path}")
