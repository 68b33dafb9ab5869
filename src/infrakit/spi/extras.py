"""Optional packages: which extra of InfraKit brings which client, whether it is installed, and how to install it.

A plugin that cannot work without one declares it as a class attribute, `extra = "docker"`, and `infrakit validate`
reports a declaration that names the plugin where the client is missing. Nothing is imported to find out.
"""

import importlib.util
from typing import NamedTuple

from infrakit.spi.errors import Refused


class Extra(NamedTuple):
    """What an extra brings."""

    module: str
    client: str  # what it is for, in messages


EXTRAS = {
    "docker": Extra("aiodocker", "the client for Docker"),
    "s3": Extra("aiobotocore", "the client for S3"),
}


def required_by(plugin: object) -> str:
    """The name of the extra that a plugin declares; empty: it needs none, or runs in a process of its own."""
    extra = getattr(type(plugin), "extra", "")
    return extra if isinstance(extra, str) and extra in EXTRAS else ""


def is_installed(name: str) -> bool:
    """Whether the client of an extra could be imported."""
    try:
        return importlib.util.find_spec(EXTRAS[name].module) is not None
    except ValueError:  # it is imported already, in a way that left no specification
        return True


def missing_extra(name: str) -> str:
    """How to install an extra: from the clone or from a wheel, because no index has InfraKit."""
    distribution = _distribution()
    wheel = f"{distribution.replace('-', '_')}-VERSION-py3-none-any.whl"
    return (
        f"install InfraKit with its extra '{name}': python -m pip install '.[{name}]' in the clone, "
        f"or python -m pip install '{distribution}[{name}] @ file:///PATH/TO/{wheel}'"
    )


def require(name: str, *, where: str) -> None:
    """Raises `Refused` if the client of an extra is not installed."""
    if not is_installed(name):
        raise Refused(f"{EXTRAS[name].client} is not installed", where=where, remedy=missing_extra(name))


def _distribution() -> str:
    """The name under which InfraKit is installed: that of the distribution that brings its own plugins."""
    import importlib.metadata

    for entry in importlib.metadata.entry_points(group="infrakit.instances", name="local"):
        if entry.value.startswith("infrakit.") and entry.dist is not None:
            return entry.dist.name
    return "pyinfrakit"  # run from the sources, without being installed
