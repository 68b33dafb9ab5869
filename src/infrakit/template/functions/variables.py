"""Variables, addressed like paths, and what a template publishes."""

from infrakit.template.failures import Fault, nearest, text
from infrakit.template.functions.table import ABSENT, function
from infrakit.template.run import Frame
from infrakit.template.scope import normal


@function(
    "var(name, default)",
    example="{{ set('cluster/name', 'blue') }}{{ var('/cluster/name') }} {{ var('zone', 'a') }}",
    result="blue a",
)
def var(frame: Frame, name: str, default: object = ABSENT) -> object:
    """The variable of that name, else the metadata at that path, else the default; without one it must be there."""
    key = _key(name)
    if key in frame.variables:
        frame.run.need(frame, "variable", key, "variables")
        return frame.variables[key]
    facts = frame.run.scope.facts
    if facts is not None:
        from infrakit.template.functions.facts import looked_up

        value = looked_up(facts, key)
        if value is not None:
            frame.run.need(frame, "variable", key, "metadata")
            return value
    frame.run.need(frame, "variable", key, "" if default is ABSENT else "default")
    if default is not ABSENT:
        return default
    raise Fault(f"there is no variable {name!r}", nearest(key, frame.variables) or f"pass --var {key}=VALUE")


@function("ref(name)", example="{{ def('size', 3) }}{{ ref('size') }}", result="3")
def ref(frame: Frame, name: str) -> object:
    """The same as `var(name)`."""
    return var.body(frame, name)


def _set(frame: Frame, name: str, value: object) -> str:
    frame.variables[_key(name)] = value
    return ""


@function("set(name, value)", example="{{ set('size', 5) }}{{ var('size') }}", result="5")
def set_(frame: Frame, name: str, value: object) -> str:
    """Set a variable for `var`, here and in templates that source this one; prints nothing."""
    return _set(frame, name, value)


@function("global(name, value)", example="{{ global('size', 5) }}{{ ref('size') }}", result="5")
def global_(frame: Frame, name: str, value: object) -> str:
    """The same as `set`."""
    return _set(frame, name, value)


@function("def(name, [help,] default)", example="{{ def('size', 'how many', 3) }}{{ ref('size') }}", result="3")
def def_(frame: Frame, name: str, *values: object) -> str:
    """Set a variable unless it is set; prints nothing."""
    if len(values) not in (1, 2):
        raise Fault(f"def takes 2 or 3 arguments, got {len(values) + 1}")
    if _key(name) not in frame.variables:
        _set(frame, name, values[-1])
    return ""


@function("export(path, value)", example="{{ export('cluster/size', 3) }}", result="")
def export(frame: Frame, path: str, value: object) -> str:
    """Publish a value in the metadata tree, for a template that the plugin `export` renders; prints nothing."""
    frame.run.exports[_key(path)] = value
    return ""


def _key(name: object) -> str:
    key = normal(text(name, "a name"))
    if not key.strip("/"):
        raise Fault(f"found the name {name!r}, which names nothing")
    return key
