"""Which objects satisfy a Protocol: the same in every version of Python, and never by `__getattr__`."""

from typing import Any, Protocol, runtime_checkable

import pytest

from infrakit.rpc import interfaces
from infrakit.spi import errors, protocols
from infrakit.spi.instance import Capable, Instance, Watches
from infrakit.spi.manager import Manager
from infrakit.spi.metadata import Metadata, Updatable
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.plugins import FlavorPlugin, Provider


@runtime_checkable
class Two(Protocol):
    async def first(self) -> None: ...

    async def second(self) -> None: ...


class Complete:
    async def first(self) -> None: ...

    async def second(self) -> None: ...


class Incomplete:
    async def first(self) -> None: ...


class Wrapper:
    """Forwards what it does not define, like many wrappers of plugins."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    async def first(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Bound:
    """Its methods are attributes of the object."""

    def __init__(self) -> None:
        self.first = Complete().first
        self.second = Complete().second


class Without(Complete):
    second = None  # type: ignore[assignment]  # how a class removes an inherited method


@pytest.mark.parametrize(
    ("plugin", "missing", "hidden"),
    [
        (Complete(), (), ()),
        (Bound(), (), ()),
        (Incomplete(), ("second",), ()),
        (Without(), ("second",), ()),
        (object(), ("first", "second"), ()),
        (Wrapper(Complete()), ("second",), ("second",)),
        (Wrapper(Incomplete()), ("second",), ()),
    ],
)
def test_missing_and_hidden_methods_of_an_object(
    plugin: object, missing: tuple[str, ...], hidden: tuple[str, ...]
) -> None:
    assert protocols.missing(plugin, Two) == missing
    assert protocols.satisfies(plugin, Two) is (missing == ())
    assert protocols.hidden(plugin, Two) == hidden


def test_methods_of_extended_protocols_count() -> None:
    assert set(protocols.methods(Metadata)) < set(protocols.methods(Updatable))


@pytest.mark.parametrize("interface", interfaces.INTERFACES, ids=lambda interface: interface.service)
def test_every_interface_has_methods(interface: interfaces.Interface) -> None:
    assert protocols.methods(interface.protocol)


class Hiding:
    """A wrapper of a provider that defines only the methods of `Instance`."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def validate(self, **arguments: Any) -> Any: ...

    async def provision(self, **arguments: Any) -> Any: ...

    async def label(self, **arguments: Any) -> Any: ...

    async def destroy(self, **arguments: Any) -> Any: ...

    async def describe_instances(self, **arguments: Any) -> Any: ...


class CapableProvider(Provider):
    async def capabilities(self) -> Any: ...


def test_a_hidden_interface_is_reported_and_not_served() -> None:
    plugin = Hiding(CapableProvider())
    assert interfaces.serves(plugin, interfaces.of(Instance))
    assert not interfaces.serves(plugin, interfaces.of(Capable))
    why = "Capable: define capabilities in class Hiding: methods behind __getattr__ are not served"
    assert interfaces.hidden(plugin, interfaces.of(Capable)) == why
    assert not interfaces.hidden(plugin, interfaces.of(Watches))


def test_a_missing_interface_of_the_daemon_is_an_error() -> None:
    interfaces.require({".": (CannedManager(), FlavorPlugin())}, {".": (Manager,)})
    with pytest.raises(errors.PluginError, match="Manager cannot be served: no method status, commit"):
        interfaces.require({".": (FlavorPlugin(), Provider())}, {".": (Manager,)})


class Forwarding:
    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_manager_behind_getattr_is_not_served() -> None:
    with pytest.raises(errors.PluginError, match="Manager cannot be served"):
        interfaces.require({".": Forwarding(CannedManager())}, {".": (Manager,)})
