"""Generates reference.md and the picture from the code, so that they always match it: `python docs/generate.py`.

`installed.py` generates the man pages and the completion files from the same functions.
Descriptions are the help texts, docstrings and comments in the code; a test fails if a file is out of date.
"""

import ast
import contextlib
import enum
import importlib
import inspect
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import msgspec

from infrakit.cli import exit_codes, failures
from infrakit.cli import main as cli
from infrakit.flavors.etcd import properties as etcd
from infrakit.flavors.swarm import properties as swarm
from infrakit.flavors.vanilla import properties as vanilla
from infrakit.instances.docker import properties as docker
from infrakit.instances.local import properties as local
from infrakit.instances.simulator import adjustable, faults, machine
from infrakit.spec import original
from infrakit.spi import errors, event, group
from infrakit.template import filters, functions, limits

ROOT = Path(__file__).parents[1]
# Types whose heading differs from their name.
SECTIONS = {
    "Attached": "Attachments",
    "Check": "Health",
    "Create": "Network.Create",
    "DeclaredAllocation": "Allocation",
    "FlavorRef": "Flavor",
    "HTTP": "Health.HTTP",
    "Individual": "ByLogicalID",
    "InstanceRef": "Instance",
    "TCP": "Health.TCP",
    "VolumeMount": "Volumes",
}
TARGET = ROOT / "docs" / "reference.md"

HEAD = """\
# Reference

All commands, fields, events, errors and rules, generated from the code by `docs/generate.py`.
The [guide](guide.md) and [operations](operations.md) explain its use.
"""


def render() -> str:
    """Render the whole page."""
    parts = [
        HEAD,
        *commands(),
        *exit_codes_table(),
        *declaration(),
        *plugins(),
        *_templates(),
        *_events(),
        *_errors(),
        *_rules(),
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


# -- the command line ------------------------------------------------------------------------------------------------


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield every command that can be run, by its full name."""
    for name in cli.COMMANDS:
        command = cli.commands.get_command(click.Context(cli.commands), name)
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield name, command
            yield from ((f"{name} {each}", command.commands[each]) for each in command.commands)
        elif command is not None:
            yield name, command


def commands() -> Iterator[str]:
    yield f"## Commands\n\n{exit_codes.HELP}\nEvery command supports `--help`."
    for name, command in every_command():
        context = click.Context(command, info_name=f"infrakit {name}")
        words = command.collect_usage_pieces(context)
        text, example = help_of(command)
        yield f"### infrakit {name}\n\n{text}\n\n```text\n{' '.join(['infrakit', name, *words])}\n```"
        options = [each for each in command.params if isinstance(each, click.Option)]
        if options:
            rows = [("`" + ", ".join(each.opts) + "`" + _value(each), each.help or "") for each in options]
            yield _table(("option", "meaning"), rows)
        yield f"Example:\n\n```sh\n{example}\n```"


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    metavar = option.make_metavar(click.Context(click.Command("")))
    return f" `{metavar}`"


def help_of(command: click.Command) -> tuple[str, str]:
    """Return the help text of a command, and its example."""
    text, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip()), textwrap.dedent(example).strip()


def exit_codes_table() -> Iterator[str]:
    yield "## Exit codes"
    found = _commented(exit_codes)
    codes = [(name, value) for name, value in vars(exit_codes).items() if isinstance(value, int)]
    yield _table(("code", "name", "meaning"), [(str(v), f"`{n}`", found.get(n, n.lower())) for n, v in codes])


# -- the declaration -------------------------------------------------------------------------------------------------


def declaration() -> Iterator[str]:
    yield (
        "## The declaration\n\n"
        "A document in YAML or JSON: a list of groups, each with `kind: group`, `metadata` (`name` and `tags`) and "
        "`properties`.\nThe original's format, `Plugin: group` with `Properties: {ID, Properties}`, is accepted, too."
    )
    yield from _structs(
        ("properties", group.GroupProperties),
        ("Allocation", group.DeclaredAllocation),
        ("Instance", group.InstanceRef),
        ("Flavor", group.FlavorRef),
        ("Updating", original.Updating),
        ("Healing", group.Healing),
    )


def plugins() -> Iterator[str]:
    yield "## The instance plugin local\n\nInstances are processes on this machine."
    yield from _structs(("Properties of local", local.Properties), ("Limits", local.Limits))
    yield "## The instance plugin docker\n\nInstances are containers of a Docker Engine, see [its page](docker.md)."
    yield from _structs(
        ("Properties of docker", docker.Properties),
        ("HostConfig", docker.HostConfig),
        ("Mount", docker.Mount),
        ("Device", docker.Device),
        ("PortBinding", docker.PortBinding),
        ("LogConfig", docker.LogConfig),
        ("Ulimit", docker.Ulimit),
        ("RestartPolicy", docker.RestartPolicy),
        ("Healthcheck", docker.Healthcheck),
        ("Network", docker.Network),
        ("Network.Create", docker.Create),
        ("Volumes", docker.VolumeMount),
    )
    yield (
        "## The instance plugin simulator\n\nA provider in memory, with configurable faults. "
        "In a daemon, faults are in\n`simulator/faults.yaml` in its home, which is reloaded when it changes."
    )
    yield from _structs(
        ("Properties of simulator", machine.Properties),
        ("Faults", adjustable.FaultsDocument),
        ("Spread", faults.Spread),
    )
    yield "## The flavor vanilla\n\nBoot lines, tags and attachments as declared, with a health check and a drain."
    yield from _structs(
        ("Properties of vanilla", vanilla.Properties),
        ("ByLogicalID", vanilla.Individual),
        ("Attachments", vanilla.Attached),
        ("Port", vanilla.Port),
        ("Health", vanilla.Check),
        ("Health.TCP", vanilla.TCP),
        ("Health.HTTP", vanilla.HTTP),
        ("Drain", vanilla.Drain),
    )
    yield "## The flavor etcd\n\nMembers of an etcd cluster, see [its page](flavor-etcd.md)."
    yield from _structs(("Properties of etcd", etcd.Properties))
    yield "## The flavors swarm/manager and swarm/worker\n\nNodes of a Docker Swarm, see [their page](flavor-swarm.md)."
    yield from _structs(
        ("Properties of swarm/manager", swarm.Manager),
        ("Properties of swarm/worker", swarm.Worker),
        ("Docker", swarm.Docker),
    )


def _structs(*named: tuple[str, type[msgspec.Struct]]) -> Iterator[str]:
    for name, struct in named:
        rows = [
            (f"`{field.encode_name}`", _words(field.type), _default(field, struct), meaning)
            for field, meaning in fields(struct)
        ]
        documented = group.Updating if struct is original.Updating else struct
        about = _unwrap(documented.__doc__ or "").partition(" `Duration`")[0]
        yield f"### {name}\n\n{about}\n\n" + _table(("field", "what", "default", "meaning"), rows)


def fields(struct: type[msgspec.Struct]) -> Iterator[tuple[Any, str]]:
    """Yield each field with the comment beside it or above it, from the class that declares it."""
    meanings: dict[str, str] = {}
    for each in reversed(struct.__mro__):
        if each.__module__.startswith("infrakit"):
            meanings |= _commented(each)
    for info, field in zip(_info(struct).fields, msgspec.structs.fields(struct), strict=True):
        yield info, meanings.get(field.name, "")


def _info(struct: type[msgspec.Struct]) -> Any:
    return msgspec.inspect.type_info(struct)


def _words(info: Any) -> str:  # noqa: C901, PLR0911, PLR0912 - a table
    match info:
        case msgspec.inspect.Metadata():
            return _words(info.type)
        case msgspec.inspect.UnionType():
            return " or ".join(_words(each) for each in info.types if not isinstance(each, msgspec.inspect.NoneType))
        case msgspec.inspect.StrType(pattern=group.DURATION_PATTERN):
            return "duration"
        case msgspec.inspect.StrType(pattern=group.PERCENT_PATTERN):
            return "percentage"
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return ("integer" if isinstance(info, msgspec.inspect.IntType) else "number") + _bounds(info)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.EnumType():
            return " or ".join(f"`{each.value}`" for each in info.cls)
        case msgspec.inspect.LiteralType():
            return " or ".join(f"`{each}`" for each in info.values)
        case msgspec.inspect.VarTupleType():
            return f"list of {_words(info.item_type)}"
        case msgspec.inspect.DictType():
            return f"map of {_words(info.value_type)}"
        case msgspec.inspect.StructType():
            return f"see {SECTIONS.get(info.cls.__name__, info.cls.__name__)}"
        case msgspec.inspect.AnyType():
            return "anything"
        case msgspec.inspect.RawType():
            return "defined by the plugin"
    raise AssertionError(f"no words for {info}")


def _bounds(info: Any) -> str:
    if info.ge is not None and info.le is not None:
        return f", {info.ge} to {info.le}"
    return f", at least {info.ge}" if info.ge is not None else ""


def _default(field: Any, struct: type[msgspec.Struct]) -> str:
    if field.required:
        return "required"
    if field.default is field.default_factory is msgspec.NODEFAULT:
        return ""  # unset
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None and struct is original.Updating:  # there, None means an omitted value
        value = getattr(group.Updating(), field.name, None)
    if value is None or value in ((), {}, "") or isinstance(value, msgspec.Raw | msgspec.Struct):
        return ""
    return f"`{value.value if isinstance(value, enum.Enum) else json.dumps(value).strip(chr(34))}`"


# -- templates -------------------------------------------------------------------------------------------------------


def _templates() -> Iterator[str]:
    yield (
        "## Templates\n\n[Templates](templates.md) explains their use. This table lists the functions, each "
        "with an example and its output.\nA function with a `|` can also be used as a filter: "
        "`{{ value | to_json }}`."
    )
    documented = [each for one in functions.TABLE.values() for each in (one, *one.members.values())]
    rows = [
        (f"`{'| ' if each.is_filter else ''}{each.signature}`", each.help, f"`{each.example}`", _output(each.result))
        for each in documented
    ]
    yield _table(("function", "meaning", "example", "prints"), rows)
    known = ", ".join(f"`{name}`" for name in sorted(filters.FILTERS) if name not in functions.TABLE)
    tests = ", ".join(f"`{name}`" for name in filters.TESTS if name.isalpha())
    yield f"Supported filters of Jinja2: {known}.\nSupported tests: {tests}."
    rows = [
        (f"`{name}`", f"{getattr(limits.Limits(), name):,}", meaning)
        for name, meaning in _commented(limits.Limits).items()
    ]
    yield "### Limits of templates\n\nUpper limits of one rendering.\n\n" + _table(("limit", "is", "of"), rows)


def _output(text: str) -> str:
    return f"`{json.dumps(text)[1:-1] if chr(10) in text else text}`" if text else "nothing"


# -- messages --------------------------------------------------------------------------------------------------------


def _events() -> Iterator[str]:
    yield f"## Events\n\n{_unwrap(event.Event.__doc__ or '')}\nOne line of JSON each; `infrakit events` shows them."
    meanings = _commented(event.Kind)
    yield _table(("type", "meaning"), [(f"`{kind.value}`", meanings.get(kind.name, "")) for kind in event.Kind])


def every_error() -> Iterator[type[errors.InfraKitError]]:
    """Yield every error that InfraKit raises on purpose."""
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.InfraKitError):
            yield value


def _errors() -> Iterator[str]:
    yield "## Errors\n\nEach error states what failed, where, and the remedy."
    rows = [(f"`{each.__name__}`", _unwrap(each.__doc__ or ""), str(_exit_code(each))) for each in every_error()]
    yield _table(("error", "meaning", "exit code"), rows)


def _exit_code(kind: type[errors.InfraKitError]) -> int:
    error: errors.InfraKitError
    if kind is errors.Throttled:
        error = errors.Throttled("", after_s=1.0)
    elif kind is errors.InvalidSpec:
        error = errors.InvalidSpec([])
    else:
        error = kind("")
    with contextlib.redirect_stderr(io.StringIO()):
        return failures.report(error)


def every_rule() -> Mapping[str, str]:
    """Return the name of every rule for an action or a refusal, and the modules that apply it."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "src/infrakit/group").rglob("*.py")):
        module = path.relative_to(ROOT / "src/infrakit").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            rules = [keyword.value for keyword in node.keywords if keyword.arg == "rule"]
            if isinstance(node.func, ast.Attribute) and node.func.attr in {"block", "destroy"}:
                rules += node.args[2:3]
            constants = vars(importlib.import_module(f"infrakit.{module.removesuffix('.py').replace('/', '.')}"))
            for value in (each for expression in rules for each in _texts(expression, constants)):
                found.setdefault(value, set()).add(f"`{module}`")
    return {name: ", ".join(sorted(found[name])) for name in sorted(found)}


def _texts(node: ast.expr, constants: Mapping[str, object]) -> Iterator[str]:
    """Yield the possible values of a text expression: a constant, by name or not, or either side of a conditional."""
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body, constants)
        yield from _texts(node.orelse, constants)
    value = constants.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)
    if isinstance(value, str):
        yield value


def _rules() -> Iterator[str]:
    yield (
        "## Rules\n\nEvery action, wait and refusal names the rule that it follows.\n"
        "[Operations](operations.md#the-rules) explains each of them."
    )
    yield _table(("rule", "decided in"), [(f"`{name}`", where) for name, where in every_rule().items()])


# -- text ------------------------------------------------------------------------------------------------------------


def _commented(subject: type | ModuleType) -> dict[str, str]:
    """Return the comment beside each assignment of a class or module, or the lines of comment above it."""
    source = textwrap.dedent(inspect.getsource(subject))
    comments = {
        token.start[0]: (token.string.lstrip("# "), not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    tree = ast.parse(source)
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) and len(tree.body) == 1 else tree.body
    found: dict[str, str] = {}
    for node in body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if not targets or not isinstance(targets[0], ast.Name):
            continue
        beside = [comments[n][0] for n in range(node.lineno, (node.end_lineno or 0) + 1) if n in comments]
        above: list[str] = []
        number = node.lineno - 1
        while number in comments and comments[number][1]:
            above.insert(0, comments[number][0])
            number -= 1
        text = " ".join(each for each in beside or above if not each.startswith(("noqa", "type:")))
        if text:
            found[targets[0].id] = text
    return found


def _unwrap(docstring: str) -> str:
    return re.sub(r"\s*\n\s*", " ", inspect.cleandoc(docstring)).strip()


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") or " " for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    import installed
    import picture

    TARGET.write_text(render())
    picture.TARGET.write_text(picture.render())
    installed.write()
