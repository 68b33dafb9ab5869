"""Placeholders: `${LOGICAL_ID}` and its like, in addresses, URLs and the words of commands.

There are `ID`, `LOGICAL_ID`, `SEQUENCE` (cattle: the number of its place), `GROUP`, `PORT` (see `properties.Port`) and
`TAG_<name>`, where an underscore stands for every character of the tag's name that is no letter, digit or underscore.
`$$` is a dollar sign.

Commands find the same values in their environment: under these names, and under those that boot scripts know from the
instance plugin `local`, such as `INFRAKIT_LOGICAL_ID` and `INFRAKIT_TAG_VERSION`.
A command that is one string goes to the shell as it is: there `${LOGICAL_ID}` is a variable, and no value can be
mistaken for shell syntax.

A value that an instance does not have makes its check impossible, which is *unknown*, never *unhealthy*.
"""

import re
import string
from collections.abc import Iterator, Mapping

from infrakit.spi.errors import Problem
from infrakit.spi.values import TAG_GROUP, TAG_LOGICAL_ID, TAG_SLOT, Allocation, Description

TAG_PORT = "infrakit.port"  # the port an instance was made with; a later change of `Port` does not move it

_NAMES = ("ID", "LOGICAL_ID", "SEQUENCE", "GROUP", "PORT")


class Missing(LookupError):
    """The instance has no value for a placeholder. `args[0]` says so in words."""


def values(instance: Description) -> dict[str, str]:
    """Everything this instance can fill in."""
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
    """Raises `Missing`."""
    try:
        return string.Template(text).substitute(known)
    except KeyError as error:
        raise Missing(f"the instance has no value for ${{{error.args[0]}}}") from error


def environment(known: Mapping[str, str]) -> dict[str, str]:
    """What a command finds."""
    as_in_boot_scripts = {f"INFRAKIT_{name.upper()}": value for name, value in known.items() if name != "ID"}
    return {**known, **as_in_boot_scripts, "INFRAKIT_INSTANCE_ID": known["ID"]}


def example_of(text: str, allocation: Allocation) -> str:
    """The text as it may look for one instance, to see whether that is well formed."""
    names = string.Template(text).get_identifiers()
    logical_id = str(allocation.logical_ids[0]) if allocation.logical_ids else "127.0.0.1"
    return fill(text, {**dict.fromkeys(names, "1"), "LOGICAL_ID": logical_id})


def problems(text: str, *, path: str, allocation: Allocation, has_port: bool) -> Iterator[Problem]:
    """What can never be filled in."""
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
            yield Problem(path=path, message="a pet has no ${SEQUENCE}", hint="its name is ${LOGICAL_ID}")
        elif name == "LOGICAL_ID" and allocation.size is not None:
            yield Problem(path=path, message="cattle has no ${LOGICAL_ID}", hint="its number is ${SEQUENCE}")
        elif name not in _NAMES and not re.fullmatch("TAG_.+", name):
            known = ", ".join(f"${{{each}}}" for each in (*_NAMES, "TAG_name"))
            yield Problem(path=path, message=f"unknown placeholder ${{{name}}}", hint=f"there are {known}")
