"""Functions that read and set variables, which have paths as names, and that publish values."""

from infrakit.template.failures import Fault, nearest, string_argument
from infrakit.template.functions.table import ABSENT, function
from infrakit.template.run import Frame
from infrakit.template.scope import normal


@function(
    "var(name, default)",
    example="{{ set('cluster/name', 'blue') }}{{ var('/cluster/name') }} {{ var('zone', 'a') }}",
    result="blue a",
)
def var(frame: Frame, name: str, default: object = ABSENT) -> object:
    """Return the variable, else the metadata at that path, else the default. Without a default, it must exist."""
    key = _key(name)
    if key in frame.variables:
        frame.run.record_need(frame, "variable", key, "variables")
        return frame.variables[key]
    facts = frame.run.scope.facts
    if facts is not None:
        from infrakit.template.functions.facts import lookup

        value = lookup(facts, key)
        if value is not None:
            frame.run.record_need(frame, "variable", key, "metadata")
            return value
    frame.run.record_need(frame, "variable", key, "" if default is ABSENT else "default")
    if default is not ABSENT:
        return default
    raise Fault(f"there is no variable {name!r}", nearest(key, frame.variables) or f"pass --var {key}=VALUE")


@function("ref(name)", example="{{ def('size', 3) }}{{ ref('size') }}", result="3")
def ref(frame: Frame, name: str) -> object:
    """Alias of `var(name)`."""
    return var.body(frame, name)


def _set(frame: Frame, name: str, value: object) -> str:
    frame.variables[_key(name)] = value
    return ""


@function("set(name, value)", example="{{ set('size', 5) }}{{ var('size') }}", result="5")
def set_(frame: Frame, name: str, value: object) -> str:
    """Set a variable for `var`, in this template and those that source it. Prints nothing."""
    return _set(frame, name, value)


@function("global(name, value)", example="{{ global('size', 5) }}{{ ref('size') }}", result="5")
def global_(frame: Frame, name: str, value: object) -> str:
    """Alias of `set`."""
    return _set(frame, name, value)


@function("def(name, [help,] default)", example="{{ def('size', 'how many', 3) }}{{ ref('size') }}", result="3")
def def_(frame: Frame, name: str, *values: object) -> str:
    """Set a variable if it is not set yet. Prints nothing."""
    if len(values) not in (1, 2):
        raise Fault(f"def takes 2 or 3 arguments, got {len(values) + 1}")
    if _key(name) not in frame.variables:
        _set(frame, name, values[-1])
    return ""


@function("export(path, value)", example="{{ export('cluster/size', 3) }}", result="")
def export(frame: Frame, path: str, value: object) -> str:
    """Publish a value in the metadata tree, if the plugin `export` renders the template. Prints nothing."""
    frame.run.exports[_key(path)] = value
    return ""


def _key(name: object) -> str:
    key = normal(string_argument(name, "a name"))
    if not key.strip("/"):
        raise Fault(f"found the name {name!r}, which names nothing")
    return key
