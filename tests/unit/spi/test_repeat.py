"""Which calls a client may retry: those that are marked in the Protocol, and no others."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

from infrakit import spi
from infrakit.rpc import interfaces, wire
from infrakit.spi.repeat import is_repeatable

# Protocol -> the methods that may be retried, and those that are never sent twice; every method is in one of them.
REMOTE = {
    "Instance": ("validate describe_instances", "provision label destroy"),
    "Capable": ("capabilities", ""),
    "Inspects": ("inspect", ""),
    "Watches": ("", ""),
    "Logs": ("logs", ""),
    "Tails": ("tail", ""),
    "Volumes": ("", "delete_attachment"),
    "Keeps": ("existing", ""),
    "Identified": ("identity", ""),
    "Flavor": ("validate healthy", "prepare drain"),
    "JudgesMany": ("healthy_all", ""),
    "Quorum": ("is_quorum", ""),
    "Attaches": ("attachments", ""),
    "Releases": ("", "release"),
    "Members": ("membership", "change_membership"),
    "Voters": ("voters", ""),
    "Hosts": ("replicas", ""),
    "Groups": (
        "describe_group inspect_groups size",
        "commit_group free_group destroy_group destroy_instances set_size",
    ),
    "Metadata": ("keys get", ""),
    "Updatable": ("keys get changes", "commit"),
    "Versioned": ("history show", "write restore"),
    "Tree": ("branches history show", "write restore"),
    "Topics": ("list", ""),
    "Controller": ("plan describe", "commit free"),
    "Stack": ("is_leader leader_location specs inspect", "enforce terminate"),
    "Manager": (
        "status plan why members logs tail history show leader",
        (
            "commit adopt adopt_account scale halt unhalt pause resume abort rollback free destroy destroy_instance "
            "restore resign forget shutdown"
        ),
    ),
}
LOCAL = {
    "Clock",
    "Emit",
    "Facts",
    "Leadership",
    "LeadershipFactory",
    "MadeFrom",
    "Resigns",
    "Store",
    "StoreFactory",
    "TakesOver",
}  # never called through a client


def protocols() -> Iterator[type]:
    for module in pkgutil.iter_modules(spi.__path__, "infrakit.spi."):
        for value in vars(importlib.import_module(module.name)).values():
            if getattr(value, "_is_protocol", False) and value.__module__ == module.name:
                yield value


def calls(protocol: type) -> dict[str, bool]:
    methods = inspect.getmembers(protocol, inspect.iscoroutinefunction)
    return {name: is_repeatable(method) for name, method in methods if not name.startswith("_")}


def test_every_protocol_is_listed() -> None:
    assert {each.__name__ for each in protocols()} == REMOTE.keys() | LOCAL
    assert {each.protocol.__name__ for each in interfaces.INTERFACES} == REMOTE.keys()


@pytest.mark.parametrize("protocol", list(protocols()), ids=lambda each: each.__name__)
def test_the_marks_match_the_list(protocol: type) -> None:
    repeatable, once = REMOTE.get(protocol.__name__, ("", ""))
    marked = calls(protocol)
    assert {name for name, mark in marked.items() if mark} == set(repeatable.split())
    if protocol.__name__ in REMOTE:
        assert {name for name, mark in marked.items() if not mark} == set(once.split())


@pytest.mark.parametrize("interface", interfaces.INTERFACES, ids=lambda each: each.service)
def test_the_client_reads_the_marks(interface: interfaces.Interface) -> None:
    assert {each.name: each.repeatable for each in wire.methods(interface)} == calls(interface.protocol)
