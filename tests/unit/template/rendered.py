"""Helpers that render a template in one call."""

from collections.abc import Mapping

import pytest

from infrakit.spi.errors import InvalidSpec
from infrakit.template.engine import Engine
from infrakit.template.limits import Limits
from infrakit.template.loaders import Loader
from infrakit.template.scope import Scope


def rendered(
    text: str, *, limits: Limits | None = None, base: str = "", scope: Scope | None = None, **variables: object
) -> str:
    """The output of a template that is named `boot.sh`."""
    engine = Engine(Loader(), limits)
    return engine.render(engine.inline(text, name="boot.sh", base=base), scope or Scope(variables=variables)).text


def refused(text: str, *, limits: Limits | None = None, scope: Scope | None = None, **variables: object) -> str:
    """The message with which the template is refused."""
    with pytest.raises(InvalidSpec) as caught:
        rendered(text, limits=limits, scope=scope or Scope(variables=variables))
    return str(caught.value)


def variables(names: Mapping[str, object]) -> Scope:
    """A scope of variables whose names are paths."""
    return Scope(variables=names)
