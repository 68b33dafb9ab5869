"""Turns an error into one message on stderr (what, where, remedy) and an exit code for scripts."""

import os
import sys
import traceback

import click

from infrakit.cli import exit_codes, tables, words
from infrakit.rpc import discovery
from infrakit.spi import errors

_CODES: dict[type[errors.InfraKitError], int] = {
    errors.InvalidSpec: exit_codes.USER_ERROR,
    errors.NotFound: exit_codes.USER_ERROR,
    discovery.NotRunning: exit_codes.NO_DAEMON,
    errors.OutcomeUnknown: exit_codes.NO_DAEMON,
}
_ERROR = "Error: "  # click's prefix of the message
DEBUG_VARIABLE = "INFRAKIT_DEBUG"  # if set, internal errors are printed with their traceback


def cause(error: Exception) -> Exception:
    """Return the first error of an exception group: one task failed and the others were cancelled."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def report(error: Exception) -> int:
    """Print an error and return the exit code."""
    match error:
        case click.UsageError():
            _show(error)
            return exit_codes.USER_ERROR
        case click.ClickException():
            _print(error.format_message())
            return exit_codes.USER_ERROR
        case errors.InvalidSpec():
            # Each line begins with the name of the document, like a compiler's, so that editors can jump to it.
            for line in str(error).splitlines():
                print(tables.clean(line), file=sys.stderr)
            return exit_codes.USER_ERROR
        case errors.InfraKitError():
            _print(str(error))
            return next((code for kind, code in _CODES.items() if isinstance(error, kind)), exit_codes.NOT_DONE)
        case OSError():
            _print(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
            return exit_codes.USER_ERROR
        case _:
            return _defect(error)


def _show(error: click.UsageError) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is the whole help
        error.show()
        print(f"\n{_ERROR}Missing command: choose one of these.", file=sys.stderr)
        return
    lines = tables.paragraph(f"{_ERROR}{_usage(error)}", hanging="  ", err=True)
    click.UsageError("\n".join(lines).removeprefix(_ERROR), error.ctx).show()


def _usage(error: click.UsageError) -> str:
    match error:
        case click.NoSuchOption(option_name=name) if name[1:].isdigit():  # click reads -1 as an option
            return f"{name!r} is negative: no command accepts a negative number."
        case click.NoSuchOption(option_name=name, ctx=click.Context(command=command)) if hint := words.unknown_option(
            name, command
        ):
            return f"No such option {name!r}. In InfraKit: {hint}."
        case _:
            return error.format_message()


def _defect(error: Exception) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    _print(f"{type(error).__name__}: {error}; this is a bug in infrakit ({DEBUG_VARIABLE}=1 prints the traceback)")
    return exit_codes.DEFECT


def _print(message: str) -> None:
    for line in tables.paragraph(f"infrakit: {message}", hanging="  ", err=True):
        print(line, file=sys.stderr)
