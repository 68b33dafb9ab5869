"""`infrakit completion`: prints the script with which a shell completes commands, options, groups and instances."""

import click
from click import shell_completion

from infrakit.cli import arguments, main


@click.command
@arguments.required("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for your shell.

    \b
    Example:
      eval "$(infrakit completion bash)"
    """
    kind = shell_completion.get_completion_class(shell)
    if kind is None:
        raise AssertionError(shell)
    # `source_vars` instead of `source()`, which starts a bash to check its version.
    script = kind(main.commands, {}, main.PROGRAM, main.COMPLETE_VARIABLE)
    click.echo(script.source_template % script.source_vars())
