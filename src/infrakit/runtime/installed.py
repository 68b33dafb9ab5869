"""The kinds of plugins, the group of Python entry points of each, and which plugins are installed.

This module imports little, because `infrakit plugin ls` loads it.
"""

import importlib.metadata
from typing import Any

from infrakit.spi.flavor import Flavor
from infrakit.spi.instance import Instance
from infrakit.spi.metadata import Metadata

INSTANCES = "infrakit.instances"
FLAVORS = "infrakit.flavors"
METADATA = "infrakit.metadata"
GROUPS: dict[type[Any], str] = {Instance: INSTANCES, Flavor: FLAVORS, Metadata: METADATA}


def available() -> dict[str, list[str]]:
    """Return the plugins that can be hosted: names of entry points, each with its kinds of plugin."""
    found: dict[str, list[str]] = {}
    entries = importlib.metadata.entry_points()  # of all groups: each call reads the files of every package
    for protocol, group in GROUPS.items():
        for name in entries.select(group=group).names:
            found.setdefault(name, []).append(protocol.__name__)
    return dict(sorted(found.items()))
