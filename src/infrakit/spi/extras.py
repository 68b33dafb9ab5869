"""Optional dependencies: which extra of InfraKit installs which client library, and whether it is installed.

A plugin that needs an extra declares it as a class attribute, `extra = "docker"`. `infrakit validate` then reports a
declaration that names the plugin on a machine without the client library. The check imports nothing.
"""

import importlib.util
from typing import NamedTuple

from infrakit.spi.errors import Refused


class Extra(NamedTuple):
    """The client library that an extra installs."""

    module: str
    client: str  # what it is for, in messages


EXTRAS = {
    "docker": Extra("aiodocker", "the client for Docker"),
    "s3": Extra("aiobotocore", "the client for S3"),
}


def required_by(plugin: object) -> str:
    """The extra that a plugin declares; empty if it needs none, or if it runs in a process of its own."""
    extra = getattr(type(plugin), "extra", "")
    return extra if isinstance(extra, str) and extra in EXTRAS else ""


def is_installed(name: str) -> bool:
    """Whether the client library of an extra can be imported."""
    try:
        return importlib.util.find_spec(EXTRAS[name].module) is not None
    except ValueError:  # the module is already imported and has no `__spec__`
        return True


def missing_extra(name: str) -> str:
    """How to install an extra: from the clone or from a wheel, because InfraKit is on no package index."""
    distribution = _distribution()
    wheel = f"{distribution.replace('-', '_')}-VERSION-py3-none-any.whl"
    return (
        f"install InfraKit with its extra '{name}': python -m pip install '.[{name}]' in the clone, "
        f"or python -m pip install '{distribution}[{name}] @ file:///PATH/TO/{wheel}'"
    )


def require(name: str, *, where: str) -> None:
    """Raise `Refused` if the client library of an extra is not installed."""
    if not is_installed(name):
        raise Refused(f"{EXTRAS[name].client} is not installed", where=where, remedy=missing_extra(name))


def _distribution() -> str:
    """The name of the installed distribution that contains InfraKit's own plugins."""
    import importlib.metadata

    for entry in importlib.metadata.entry_points(group="infrakit.instances", name="local"):
        if entry.value.startswith("infrakit.") and entry.dist is not None:
            return entry.dist.name
    return "pyinfrakit"  # run from the source tree without installation
