"""`infrakit metadata`: reads facts about the cluster and sets values, addressed like files."""

import click

from infrakit.cli import words
from infrakit.cli.commands.metadata.read import cat, ls, tree, watch
from infrakit.cli.commands.metadata.write import history, restore, rm, set_


@click.group(cls=words.Commands)
def metadata() -> None:
    """Read cluster facts and set values, addressed like files.

    The first name of a path is that of the metadata plugin; the plugin `vars` holds the values set with this command.

    \b
    Example:
      infrakit metadata cat manager/leader/name
    """


for command in (ls, cat, tree, watch, set_, rm, history, restore):
    metadata.add_command(command)
