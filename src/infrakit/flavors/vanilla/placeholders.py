"""Placeholders, such as `${LOGICAL_ID}`, in addresses, URLs and the arguments of commands.

The placeholders are `ID`, `LOGICAL_ID`, `SEQUENCE` (cattle: the number of its slot), `GROUP`, `PORT` (see
`properties.Port`) and `TAG_<name>`, where every character of the tag's name that is no letter, digit or underscore
becomes an underscore. `$$` is a dollar sign.

Commands have the same values in their environment: under these names, and under the names that the instance plugin
`local` gives to boot scripts, such as `INFRAKIT_LOGICAL_ID` and `INFRAKIT_TAG_VERSION`.
A command that is one string is passed to the shell unchanged: there `${LOGICAL_ID}` is a variable, so no value is
interpreted as shell syntax.

If an instance has no value for a placeholder, its check is impossible: the health is *unknown*, never *unhealthy*.
"""

import re
import string
from collections.abc import Iterator, Mapping

from infrakit.spi.errors import Problem
from infrakit.spi.values import TAG_GROUP, TAG_LOGICAL_ID, TAG_SLOT, Allocation, Description

TAG_PORT = "infrakit.port"  # the port that an instance was created with; a later change of `Port` does not affect it

_NAMES = ("ID", "LOGICAL_ID", "SEQUENCE", "GROUP", "PORT")


class Missing(LookupError):
    """The instance has no value for a placeholder. `args[0]` is the message."""


def values(instance: Description) -> dict[str, str]:
    """Return the values that this instance has, by placeholder."""
    tags = instance.tags or {}
    logical_id = instance.logical_id or tags.get(TAG_LOGICAL_ID)
    known = {
        "ID": instance.id,
        "LOGICAL_ID": logical_id,
        "SEQUENCE": tags.get(TAG_SLOT) if logical_id is None else None,
        "GROUP": tags.get(TAG_GROUP),
        "PORT": tags.get(TAG_PORT),
    }
    filled = {f"TAG_{re.sub(r'[^A-Za-z0-9_]', '_', name)}": value for name, value in tags.items()}
    return filled | {name: value for name, value in known.items() if value is not None}


def fill(text: str, known: Mapping[str, str]) -> str:
    """Replace all placeholders. Raises `Missing` for one without a value."""
    try:
        return string.Template(text).substitute(known)
    except KeyError as error:
        raise Missing(f"the instance has no value for ${{{error.args[0]}}}") from error


def environment(known: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a command."""
    as_in_boot_scripts = {f"INFRAKIT_{name.upper()}": value for name, value in known.items() if name != "ID"}
    return {**known, **as_in_boot_scripts, "INFRAKIT_INSTANCE_ID": known["ID"]}


def example_of(text: str, allocation: Allocation) -> str:
    """Fill the text with example values, to check that the result is well formed."""
    names = string.Template(text).get_identifiers()
    logical_id = str(allocation.logical_ids[0]) if allocation.logical_ids else "127.0.0.1"
    return fill(text, {**dict.fromkeys(names, "1"), "LOGICAL_ID": logical_id})


def problems(text: str, *, path: str, allocation: Allocation, has_port: bool) -> Iterator[Problem]:
    """Report the placeholders that no instance of the group can fill."""
    template = string.Template(text)
    if not template.is_valid():
        yield Problem(
            path=path, message=f"{text!r} has a $ that starts no placeholder", hint="write $$ for a dollar sign"
        )
        return
    for name in template.get_identifiers():
        if name == "PORT" and not has_port:
            yield Problem(path=path, message="${PORT} needs the property Port", hint="Port: {Base: 8100}")
        elif name == "SEQUENCE" and allocation.logical_ids is not None:
            yield Problem(path=path, message="a pet has no ${SEQUENCE}", hint="use ${LOGICAL_ID}")
        elif name == "LOGICAL_ID" and allocation.size is not None:
            yield Problem(path=path, message="cattle has no ${LOGICAL_ID}", hint="use ${SEQUENCE}")
        elif name not in _NAMES and not re.fullmatch("TAG_.+", name):
            known = ", ".join(f"${{{each}}}" for each in (*_NAMES, "TAG_name"))
            yield Problem(path=path, message=f"unknown placeholder ${{{name}}}", hint=f"there are {known}")
