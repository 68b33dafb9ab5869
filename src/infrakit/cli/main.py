"""The entry point: every command by name, and only the one that runs is imported.

The table below is all that `infrakit --help` needs, so the help of the whole program costs one import of click. A
command's module is imported when its name is typed; aiohttp, asyncio, YAML and rich only inside the commands that need
them. Errors end here too: whatever a command raises becomes one message on stderr and an exit code, never a traceback.
"""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import cast

import click

import infrakit
from infrakit.cli import exit_codes

PROGRAM = "infrakit"
COMPLETE_VARIABLE = "_INFRAKIT_COMPLETE"

# Section -> command -> (module in infrakit.cli.commands, one line of help).
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Declare": {
        "up": ("up", "Start what FILE needs in one process, commit it, and stay."),
        "bootstrap": ("bootstrap", "Make FILE's first machine, and declare FILE in its store."),
        "sample": ("sample", "Print a declaration to begin with, or list those that there are."),
        "init": ("init", "Print the script that makes a bare machine FILE's first node."),
        "validate": ("validate", "Check FILE and report every error at once; needs no daemon."),
        "plan": ("plan", "Show what committing FILE would do, and why; change nothing."),
        "commit": ("commit", "Declare the groups of FILE to the running daemon."),
        "template": ("template", "Render a template, check it, or tell what it needs."),
        "history": ("history", "List the versions of the declaration."),
        "restore": ("restore", "Declare an earlier version again."),
        "down": ("down", "Destroy every declared group, then stop the daemon."),
    },
    "Look": {
        "status": ("status", "Show what exists against what is declared."),
        "why": ("why", "Explain a group or an instance, and what would change it."),
        "leader": ("leader", "Show which replica acts, since when, and how the others are."),
        "events": ("events", "Show what happened, each line with its reason."),
        "metadata": ("metadata", "Read facts of the cluster, and set values, addressed like files."),
    },
    "Act": {
        "group": ("group", "List, scale, roll, free or destroy groups."),
        "instance": ("instance", "List, describe or destroy instances, and read their logs."),
        "halt": ("halt", "Stop every change to infrastructure, or to one group."),
        "unhalt": ("halt", "Lift a halt."),
    },
    "Set up": {
        "remote": ("remote", "Choose the daemon, here or elsewhere, that commands ask."),
        "plugin": ("plugin", "Find, run, write and check plugins."),
        "completion": ("completion", "Print the completion script of your shell."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyCommands(click.Group):
    """The group of all commands, which imports a command's module when it is asked for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:
                return None
            from infrakit.cli import words

            raise click.UsageError(words.no_such(cmd_name, COMMANDS, words.OF_INFRAKIT), ctx=ctx)
        module = importlib.import_module(f"infrakit.cli.commands.{COMMANDS[cmd_name][0]}")
        return cast("click.Command", getattr(module, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(map(len, COMMANDS))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, (_, line) in section.items()])


@click.group(
    PROGRAM,
    cls=LazyCommands,
    epilog=f"{exit_codes.HELP} `{PROGRAM} COMMAND --help` shows an example of each. Documentation: {infrakit.HOMEPAGE}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(infrakit.__version__, "-V", "--version", prog_name=PROGRAM, message="%(prog)s %(version)s")
def commands() -> None:
    """Keep declared groups of nodes alive, by itself.

    \b
    Example:
      infrakit up infrakit.yaml    start, in one terminal
      infrakit status              look, in another
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; answers its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character gets its number, not a crash
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        if sys.stdout is not None:  # it is when the program was started with its output closed
            sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered has no reader; without this the interpreter complains about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    return code


def _refuse_bytes(arguments: Sequence[str]) -> None:
    """What is not UTF-8 can be sent to no daemon and stored nowhere; Python passes such bytes on as surrogates."""
    for each in arguments:
        if "\0" in each or any("\ud800" <= character <= "\udfff" for character in each):
            raise click.UsageError(f"The argument {each!r} is not UTF-8 text.")


def _run(arguments: list[str]) -> int:
    instruction = os.environ.get(COMPLETE_VARIABLE)
    try:
        if instruction:
            from click import shell_completion

            return shell_completion.shell_complete(commands, {}, PROGRAM, COMPLETE_VARIABLE, instruction)
        _refuse_bytes(arguments)
        # Not `commands.main`: it would turn a broken pipe into the exit code of a user's error.
        with commands.make_context(PROGRAM, arguments) as context:
            commands.invoke(context)
    except click.exceptions.Exit as request:
        return request.exit_code
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr is not None and sys.stderr.isatty():
            click.echo(err=True)  # ends the line on which the terminal echoed ^C
        return exit_codes.INTERRUPTED
    except Exception as error:  # noqa: BLE001
        from infrakit.cli import failures

        cause = failures.cause(error)
        if isinstance(cause, BrokenPipeError):
            raise cause from None
        return failures.report(cause)
    return exit_codes.DONE
