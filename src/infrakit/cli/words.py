"""Command names and options of other tools, and the InfraKit command or option for each.

An unknown command is answered with the equivalent command and its syntax. None of the words is an alias: the arguments
would differ, and a command that changes infrastructure must be typed on purpose.
"""

from collections.abc import Iterable

import click

from infrakit.spi import names

_BACK = (
    "`infrakit group rollback GROUP` restores the previous version of one group, "
    "`infrakit restore VERSION` an earlier version of all groups"
)
_DELETE = (
    "`infrakit down` destroys all groups, `infrakit group destroy GROUP` one, "
    "`infrakit instance destroy ID` an instance"
)
_LIST = "`infrakit group ls` lists groups, `infrakit instance ls` instances, `infrakit plugin ls` plugins"
_LOGS = "`infrakit instance logs ID` prints what an instance has printed, `infrakit events` what InfraKit has done"
_RUN = "`infrakit up FILE` runs a daemon here and commits FILE"
_SCALE = "`infrakit group scale GROUP SIZE`"
_STOP = "`infrakit halt -m WHY` stops every change, `infrakit down` destroys every group and stops the daemon"
_UPDATE = "`infrakit commit FILE` declares the groups of FILE, and out-of-date instances are replaced"

OF_INFRAKIT = {
    "apply": "`infrakit commit FILE` declares the groups of FILE",
    "cancel": "`infrakit group abort GROUP` aborts a rolling update",
    "chaos": "`infrakit rehearse FILE` tries FILE against faults",
    "check": "`infrakit validate FILE` checks FILE, `infrakit plugin check NAME` a plugin",
    "config": "`infrakit history` lists the versions of the declaration, `infrakit history --show VERSION` prints one",
    "create": _RUN + ", `infrakit commit FILE` commits it to a running daemon",
    "daemon": "`infrakit up` runs a daemon here",
    "delete": _DELETE,
    "deploy": "`infrakit commit FILE` declares the groups of FILE",
    "describe": "`infrakit group describe GROUP` or `infrakit instance describe ID`",
    "destroy": _DELETE,
    "diff": "`infrakit plan FILE` shows what committing FILE would do",
    "drain": "`infrakit instance destroy ID` drains and destroys an instance, and its group replaces it",
    "edit": _UPDATE,
    "example": "`infrakit sample` lists sample declarations",
    "examples": "`infrakit sample` lists sample declarations",
    "explain": "`infrakit why GROUP` explains a group, `infrakit why GROUP/ID` an instance",
    "export": "`infrakit history --show VERSION` prints a declaration",
    "get": "`infrakit status` shows groups, " + _LIST,
    "help": "`infrakit --help`, or `infrakit COMMAND --help`",
    "inspect": "`infrakit group describe GROUP` or `infrakit instance describe ID`",
    "install": "`infrakit plugin ls` lists the installed plugins",
    "instances": "`infrakit instance ls` lists instances",
    "groups": "`infrakit group ls` lists groups",
    "kill": "`infrakit instance destroy ID` destroys an instance",
    "list": _LIST,
    "log": _LOGS,
    "logs": _LOGS,
    "ls": _LIST,
    "members": "`infrakit instance ls` lists instances, `infrakit leader` replicas of InfraKit",
    "node": "`infrakit instance ls` lists instances",
    "nodes": "`infrakit instance ls` lists instances",
    "pause": "`infrakit group pause GROUP` pauses a rolling update, `infrakit halt -m WHY` stops every change",
    "plugins": "`infrakit plugin ls` lists plugins",
    "preview": "`infrakit plan FILE` shows what committing FILE would do",
    "ps": "`infrakit status` shows groups, `infrakit instance ls` lists instances",
    "reload": _UPDATE,
    "remove": _DELETE,
    "new": "`infrakit sample` lists sample declarations, `infrakit plugin new NAME --kind KIND` writes a plugin",
    "replicas": "`infrakit leader` shows the replicas of InfraKit",
    "resume": "`infrakit group resume GROUP` continues a rolling update, `infrakit unhalt` lifts a halt",
    "restart": "`infrakit instance destroy ID` replaces an instance; changing a tag in FILE replaces all of a group",
    "rm": _DELETE,
    "rollback": _BACK,
    "rollout": "`infrakit commit FILE` starts a rolling update, `infrakit group --help` lists commands that control it",
    "run": _RUN,
    "scale": _SCALE,
    "serve": _RUN,
    "set": "`infrakit metadata set vars/NAME VALUE` sets a value",
    "show": "`infrakit status` shows groups, `infrakit history --show VERSION` a declaration",
    "simulate": "`infrakit rehearse FILE` tries FILE against faults, with simulated plugins",
    "start": _RUN,
    "stop": _STOP,
    "tail": _LOGS,
    "test": "`infrakit rehearse FILE` tries FILE against faults, `infrakit validate FILE` checks it",
    "terminate": _DELETE,
    "top": "`infrakit status --watch` shows groups, refreshed every second",
    "undo": _BACK,
    "update": _UPDATE,
    "upgrade": _UPDATE,
    "version": "`infrakit --version`",
    "wait": "`infrakit status --wait 5m` waits until all groups have converged",
    "watch": "`infrakit status --watch`, or `infrakit events --follow`",
}
OF_GROUP = {
    "commit": "`infrakit commit FILE` declares the groups of FILE",
    "create": "`infrakit commit FILE` declares the groups of FILE",
    "delete": "`infrakit group destroy GROUP`",
    "get": "`infrakit group describe GROUP`",
    "halt": "`infrakit halt GROUP -m WHY`",
    "inspect": "`infrakit group describe GROUP`",
    "instances": "`infrakit instance ls GROUP`",
    "list": "`infrakit group ls`",
    "remove": "`infrakit group destroy GROUP`",
    "rm": "`infrakit group destroy GROUP`",
    "show": "`infrakit group describe GROUP`",
    "status": "`infrakit group describe GROUP`",
    "stop": "`infrakit halt GROUP -m WHY` stops every change, `infrakit group pause GROUP` a rolling update",
    "undo": "`infrakit group rollback GROUP`",
    "unhalt": "`infrakit unhalt GROUP`",
    "update": _UPDATE,
    "why": "`infrakit why GROUP`",
}
OF_INSTANCE = {
    "create": "instances are created as FILE declares: `infrakit commit FILE`, or `infrakit group scale GROUP SIZE`",
    "delete": "`infrakit instance destroy ID`",
    "get": "`infrakit instance describe ID`",
    "inspect": "`infrakit instance describe ID`",
    "kill": "`infrakit instance destroy ID`",
    "list": "`infrakit instance ls`",
    "log": "`infrakit instance logs ID`",
    "ps": "`infrakit instance ls`",
    "remove": "`infrakit instance destroy ID`",
    "restart": "`infrakit instance destroy ID` replaces it",
    "rm": "`infrakit instance destroy ID`",
    "show": "`infrakit instance describe ID`",
    "status": "`infrakit instance describe ID`",
    "stop": "`infrakit instance destroy ID`",
    "tail": "`infrakit instance logs ID --follow`",
}
OF_PLUGIN = {
    "add": "`infrakit plugin new NAME --kind KIND` creates a plugin; `pip install` installs it",
    "create": "`infrakit plugin new NAME --kind KIND`",
    "init": "`infrakit plugin new NAME --kind KIND`",
    "install": "`pip install` installs a plugin, and `infrakit plugin ls` lists it",
    "kill": "`infrakit plugin stop NAME`",
    "list": "`infrakit plugin ls`",
    "run": "`infrakit plugin start NAME`",
    "serve": "`infrakit plugin start NAME`",
    "status": "`infrakit plugin ls`",
    "test": "`infrakit plugin check NAME`",
    "validate": "`infrakit plugin check NAME`",
    "verify": "`infrakit plugin check NAME`",
}
OF_METADATA = {
    "delete": "`infrakit metadata rm PATH`",
    "describe": "`infrakit metadata tree PATH`",
    "get": "`infrakit metadata cat PATH`",
    "list": "`infrakit metadata ls PATH`",
    "log": "`infrakit metadata history`",
    "put": "`infrakit metadata set PATH VALUE`",
    "read": "`infrakit metadata cat PATH`",
    "remove": "`infrakit metadata rm PATH`",
    "rollback": "`infrakit metadata restore VERSION`",
    "show": "`infrakit metadata cat PATH` prints one value, `infrakit metadata tree PATH` all below PATH",
    "unset": "`infrakit metadata rm PATH`",
    "write": "`infrakit metadata set PATH VALUE`",
}
OF_REMOTE = {
    "delete": "`infrakit remote remove NAME`",
    "list": "`infrakit remote ls`",
    "rm": "`infrakit remote remove NAME`",
    "select": "`infrakit remote use NAME`",
    "set": "`infrakit remote use NAME`",
    "switch": "`infrakit remote use NAME`",
}
_OF = {"group": OF_GROUP, "instance": OF_INSTANCE, "metadata": OF_METADATA, "plugin": OF_PLUGIN, "remote": OF_REMOTE}

_CONSENT = "`--destroys N` permits the destruction of N instances; nothing else is asked here"
_JSON = "`-o json` prints JSON"
_PLAN = "`infrakit plan FILE` shows what committing FILE would do"
# Option of other tools -> the option that this command has instead, and what it does; "" for a sentence that always
# holds. The first that applies is printed.
OPTIONS = {
    "--auto-approve": (("--yes", "`--yes` asks for no confirmation"), ("--destroys", _CONSENT)),
    "--check": (("--destroys", _PLAN),),
    "--diff": (("--destroys", _PLAN),),
    "--dry-run": (("--destroys", _PLAN),),
    "--file": (("FILE", "FILE is written without an option"),),
    "--filename": (("FILE", "FILE is written without an option"),),
    "--follow": (("--watch", "`--watch` refreshes every second"),),
    "--force": (("--yes", "`--yes` asks for no confirmation"), ("--destroys", _CONSENT)),
    "--format": (("--output", _JSON),),
    "--json": (("--output", _JSON),),
    "--reason": (("--message", "`-m WHY` gives the reason"),),
    "--timeout": (("--wait", "`--wait 5m` waits until all groups have converged, for five minutes at most"),),
    "--verbose": (("", "`infrakit why GROUP` and `infrakit events` explain every action"),),
    "--watch": (("--follow", "`--follow` prints what is new"),),
    "--yes": (("--destroys", _CONSENT), ("", "this command asks for no confirmation")),
    "-f": (("FILE", "FILE is written without an option"), ("--watch", "`--watch` refreshes every second")),
    "-v": (("--version", "`-V` prints the version"), ("", "`infrakit why GROUP` explains every action")),
    "-w": (("--wait", "`--wait 5m` waits until all groups have converged"), ("--follow", "`-f` prints what is new")),
    "-y": (("--destroys", _CONSENT), ("", "this command asks for no confirmation")),
}


def unknown_option(name: str, command: click.Command) -> str:
    """Return what to type instead of an option that a command does not have; empty if that is not known."""
    has = {"", *(name for each in command.params for name in each.opts)}
    has |= {each.name.upper() for each in command.params if isinstance(each, click.Argument) and each.name}
    return next((hint for needed, hint in OPTIONS.get(name, ()) if needed in has), "")


def unknown_command(name: str, known: Iterable[str], words: dict[str, str]) -> str:
    """Return the error message for a command that does not exist."""
    if name in words:
        return f"No such command '{name}'. In InfraKit: {words[name]}."
    near = names.nearest(name, known)
    return f"No such command '{name}'." + (f" Did you mean '{near}'?" if near else "")


class Commands(click.Group):
    """A group of commands that suggests the equivalent command for an unknown one."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:
            raise click.UsageError(unknown_command(cmd_name, self.commands, _OF.get(self.name or "", {})), ctx=ctx)
        return found
