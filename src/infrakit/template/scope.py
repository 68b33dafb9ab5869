"""The inputs of a render: variables, functions of the caller, facts, and permissions on this machine."""

from collections.abc import Mapping

from infrakit.spi.clock import Clock, SystemClock
from infrakit.spi.metadata import Facts


def normal(name: str) -> str:
    """Normalize the path of a variable: `/cluster/name` and `cluster/name` are the same."""
    return "/".join(part for part in name.split("/") if part) if "/" in name else name


class Scope:
    """The inputs of a render. It is immutable, and may be shared by many renders and threads.

    `variables` are plain values (strings, numbers, booleans, lists, mappings) by path. `functions` are Python functions
    or plain values of the caller, by their names in templates; they take precedence over functions of the engine, and
    those over variables. `env` lists the environment variables that may be read. Without `local_files`, no template may
    read a file of this machine, or run a command for a secret.
    """

    __slots__ = ("clock", "env", "facts", "functions", "local_files", "variables")

    def __init__(
        self,
        *,
        variables: Mapping[str, object] | None = None,
        functions: Mapping[str, object] | None = None,
        facts: Facts | None = None,
        env: frozenset[str] = frozenset(),
        local_files: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.variables = {normal(name): value for name, value in (variables or {}).items()}
        self.functions = dict(functions or {})
        self.facts = facts
        self.env = env
        self.local_files = local_files
        self.clock: Clock = clock or SystemClock()
