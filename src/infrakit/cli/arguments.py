"""The positional arguments of all commands; no other module declares one.

Whether an argument must be given is declared here and checked here. It is not left to click, whose releases read
`required` and `default` differently: from 8.2 on, `default=None` counts as a value, so that a command would
receive None for a missing argument. An empty text is rejected too: it comes from a shell variable that is not
set, and `infrakit halt "$GROUP"` must not halt every group.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from infrakit.cli import numbers
from infrakit.spi.errors import InfraKitError

F = TypeVar("F", bound=Callable[..., Any])


def required(name: str, *, many: bool = False, empty: bool = False, **more: Any) -> Callable[[F], F]:
    """Declare a mandatory argument; `many`: it may be repeated; `empty`: an empty text is a valid value."""
    return click.argument(
        name, nargs=-1 if many else 1, required=True, callback=_present if empty else _present_with_text, **more
    )


def optional(name: str, *, empty: bool = False, **more: Any) -> Callable[[F], F]:
    """Declare an optional argument: if it is omitted, the command receives its `default`, or None."""
    return click.argument(name, required=False, callback=None if empty else _with_text, **more)


def _present(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    if value is None or value == ():
        raise click.MissingParameter(ctx=context, param=parameter)
    return value


def _with_text(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise click.BadParameter("it is empty.")
    return value


def _present_with_text(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    return _with_text(context, parameter, _present(context, parameter, value))


def _complete_groups(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the groups that the daemon manages; none while no daemon is running."""
    from infrakit.cli import daemon

    try:
        return [group.name for group in daemon.status().groups if group.name.startswith(incomplete)]
    except InfraKitError:
        return []


def _complete_instances(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from infrakit.cli import daemon
    from infrakit.spi.manager import Manager

    try:
        members = daemon.ask(Manager.members)
    except InfraKitError:
        return []
    return [member.id for member in members if member.id is not None and member.id.startswith(incomplete)]


# GROUP and INSTANCE are completed by querying the daemon. FILE completes paths; the loader also accepts URLs.
group = required("group", shell_complete=_complete_groups)
optional_group = optional("group", shell_complete=_complete_groups)
instance = required("instance", shell_complete=_complete_instances)
file = required("file", type=click.Path(allow_dash=True))
optional_file = optional("file", type=click.Path(allow_dash=True))
cluster = required("cluster")
replica = required("replica")
version = required("version", type=numbers.whole(0))
