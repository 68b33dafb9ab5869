"""`infrakit plugin`: find, run, write and check plugins. Each subcommand is a module, registered below."""

import click

from infrakit.cli import words
from infrakit.cli.commands.plugin.check import check
from infrakit.cli.commands.plugin.ls import ls
from infrakit.cli.commands.plugin.new import new
from infrakit.cli.commands.plugin.start import start
from infrakit.cli.commands.plugin.stop import stop


@click.group(cls=words.Commands)
def plugin() -> None:
    """Find, run, write and check plugins.

    \b
    Example:
      infrakit plugin start vanilla simulator
    """


plugin.add_command(check)
plugin.add_command(ls)
plugin.add_command(new)
plugin.add_command(start)
plugin.add_command(stop)
