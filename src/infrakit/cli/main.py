"""The entry point: lists every command by name and imports only the one that runs.

The table below is all that `infrakit --help` needs, so the help of the program imports nothing but click. A command's
module is imported when the command is invoked; aiohttp, asyncio, YAML and rich are imported only inside the commands
that need them. Errors are handled here: every exception of a command becomes one message on stderr and an exit code,
never a traceback.
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

# Section -> command -> (module in infrakit.cli.commands, short help).
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Declare": {
        "up": ("up", "Run a daemon in the foreground and commit FILE."),
        "bootstrap": ("bootstrap", "Create FILE's first machine and commit FILE to its store."),
        "sample": ("sample", "Print a sample declaration, or list the samples."),
        "init": ("init", "Print a script that turns a bare machine into FILE's first node."),
        "validate": ("validate", "Check FILE and report all errors at once; needs no daemon."),
        "plan": ("plan", "Show what committing FILE would do, and why; changes nothing."),
        "rehearse": ("rehearse", "Try FILE against simulated faults; changes nothing."),
        "commit": ("commit", "Commit the groups declared in FILE to the running daemon."),
        "template": ("template", "Render a template, check its output, or list its inputs."),
        "history": ("history", "List the versions of the declaration."),
        "restore": ("restore", "Commit an earlier version of the declaration again."),
        "down": ("down", "Destroy every declared group, then stop the daemon."),
    },
    "Observe": {
        "status": ("status", "Compare the actual state of all groups with the declaration."),
        "why": ("why", "Explain a group or an instance, and what would change it."),
        "leader": ("leader", "Show the active replica and the status of the others."),
        "events": ("events", "Show the event journal, each event with its reason."),
        "metadata": ("metadata", "Read cluster facts and set values, addressed like files."),
    },
    "Operate": {
        "group": ("group", "List, scale, pause, roll back, free or destroy groups."),
        "instance": ("instance", "List, describe or destroy instances, and read their logs."),
        "halt": ("halt", "Stop all changes to the infrastructure, or to one group."),
        "unhalt": ("halt", "Lift a halt."),
        "adopt": ("adopt", "Make the instances of another cluster members of this one."),
    },
    "Set up": {
        "remote": ("remote", "Choose the daemon, local or remote, that commands are sent to."),
        "plugin": ("plugin", "Find, run, write and check plugins."),
        "completion": ("completion", "Print the completion script for your shell."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyCommands(click.Group):
    """The group of all commands; imports a command's module on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:
                return None
            from infrakit.cli import words

            raise click.UsageError(words.unknown_command(cmd_name, COMMANDS, words.OF_INFRAKIT), ctx=ctx)
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
    epilog=f"{exit_codes.HELP} `{PROGRAM} COMMAND --help` shows an example. Documentation: {infrakit.HOMEPAGE}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(infrakit.__version__, "-V", "--version", prog_name=PROGRAM, message="%(prog)s %(version)s")
def commands() -> None:
    """Declare groups of nodes; InfraKit creates, heals and updates them.

    \b
    Example:
      infrakit up infrakit.yaml    run a daemon, in one terminal
      infrakit status              show its groups, in another
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal lacks is printed as an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        if sys.stdout is not None:  # it is None if the program was started with its output closed
            sys.stdout.flush()
    except BrokenPipeError:
        # The buffered rest has no reader; without this, the interpreter prints an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    return code


def _refuse_bytes(arguments: Sequence[str]) -> None:
    """Reject arguments that are not UTF-8 (Python passes them as surrogates): they can be neither sent nor stored."""
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
        # Not `commands.main`: it would turn a broken pipe into the exit code of a user error.
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
