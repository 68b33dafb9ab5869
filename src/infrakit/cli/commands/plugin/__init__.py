"""`infrakit plugin`: find, run, write and check plugins. Each subcommand is a module here, and a line below."""

import click

from infrakit.cli.commands.plugin.ls import ls


@click.group
def plugin() -> None:
    """Find, run, write and check plugins.

    \b
    Example:
      infrakit plugin ls
    """


plugin.add_command(ls)
