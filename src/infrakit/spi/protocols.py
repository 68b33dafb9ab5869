"""Checks whether an object satisfies a Protocol: by the methods that its class defines, with every Python.

Up to Python 3.11 `isinstance` also accepts methods that `__getattr__` supplies; from 3.12 on it does not, because it
uses `inspect.getattr_static`. An interface that depends on `__getattr__` would be served on one machine and absent on
the next. Here such methods never count, and `hidden` lists them so that the author of the plugin can define them.
"""

import inspect
from collections.abc import Sequence


def methods(protocol: type) -> Sequence[str]:
    """Return the names of a Protocol's methods; those of the Protocols that it extends come first."""
    bases = [base for base in reversed(protocol.__mro__) if getattr(base, "_is_protocol", False)]
    names = (name for base in bases for name, value in vars(base).items() if callable(value))
    return tuple(dict.fromkeys(name for name in names if not name.startswith("_")))


def missing(plugin: object, protocol: type) -> Sequence[str]:
    """Return the methods of a Protocol that the object does not define."""
    return tuple(name for name in methods(protocol) if inspect.getattr_static(plugin, name, None) is None)


def satisfies(plugin: object, protocol: type) -> bool:
    """Whether the object defines every method of the Protocol."""
    return not missing(plugin, protocol)


def hidden(plugin: object, protocol: type) -> Sequence[str]:
    """Return the methods that only `__getattr__` supplies, if the object would satisfy the Protocol with them."""
    absent = missing(plugin, protocol)
    return absent if all(callable(getattr(plugin, name, None)) for name in absent) else ()


def explain_hidden(plugin: object, names: Sequence[str]) -> str:
    """Explain the result of `hidden` in one clause, for the author of the plugin."""
    return f"define {', '.join(names)} in class {type(plugin).__name__}: methods behind __getattr__ are not served"
