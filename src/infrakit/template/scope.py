"""What a template can see: variables, functions of its flavor, facts, and what of this machine it may read."""

from collections.abc import Mapping

from infrakit.spi.clock import Clock, SystemClock
from infrakit.spi.metadata import Facts


def normal(name: str) -> str:
    """Variables are addressed like paths: `/cluster/name` and `cluster/name` are one."""
    return "/".join(part for part in name.split("/") if part) if "/" in name else name


class Scope:
    """What one render starts from. It is never changed, and may serve many renders, in many threads.

    `variables` are plain values (text, numbers, booleans, lists, mappings) under names like paths. `functions` come
    from the caller, as functions of Python or as plain values under the names that templates use; they go before
    functions of the engine, and those before variables. `env` lists the environment variables that may be read.
    Without `local_files` no template reads a file of this machine, or runs a command for a secret.
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
