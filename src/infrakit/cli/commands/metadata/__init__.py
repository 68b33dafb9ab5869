"""`infrakit metadata`: facts of the cluster and values that were set, addressed like files."""

import click

from infrakit.cli.commands.metadata.read import cat, ls, tree, watch
from infrakit.cli.commands.metadata.write import history, restore, rm, set_


@click.group
def metadata() -> None:
    """Read facts of the cluster, and set values, addressed like files.

    The first name of a path is that of the plugin whose facts it leads to: `vars` holds what was set here.

    \b
    Example:
      infrakit metadata cat manager/leader/name
    """


for command in (ls, cat, tree, watch, set_, rm, history, restore):
    metadata.add_command(command)
