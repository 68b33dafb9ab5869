"""Which objects satisfy a Protocol: alike on every Python, and never by `__getattr__`."""

from typing import Any, Protocol, runtime_checkable

import pytest

from infrakit.rpc import interfaces
from infrakit.spi import errors, protocols
from infrakit.spi.instance import Capable, Instance, Watches
from infrakit.spi.manager import Manager
from infrakit.spi.metadata import Metadata, Updatable
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.plugins import Judge, Provider


@runtime_checkable
class Two(Protocol):
    async def first(self) -> None: ...

    async def second(self) -> None: ...


class Whole:
    async def first(self) -> None: ...

    async def second(self) -> None: ...


class Half:
    async def first(self) -> None: ...


class Wrapper:
    """Hands on what it does not define, as wrappers of plugins like to do."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    async def first(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Bound:
    """Its methods are attributes of the object."""

    def __init__(self) -> None:
        self.first = Whole().first
        self.second = Whole().second


class Without(Whole):
    second = None  # type: ignore[assignment]  # how a class takes back what it inherits


@pytest.mark.parametrize(
    ("plugin", "missing", "hidden"),
    [
        (Whole(), (), ()),
        (Bound(), (), ()),
        (Half(), ("second",), ()),
        (Without(), ("second",), ()),
        (object(), ("first", "second"), ()),
        (Wrapper(Whole()), ("second",), ("second",)),
        (Wrapper(Half()), ("second",), ()),
    ],
)
def test_what_an_object_lacks_and_hides(plugin: object, missing: tuple[str, ...], hidden: tuple[str, ...]) -> None:
    assert protocols.missing(plugin, Two) == missing
    assert protocols.satisfies(plugin, Two) is (missing == ())
    assert protocols.hidden(plugin, Two) == hidden


def test_methods_of_extended_protocols_count() -> None:
    assert set(protocols.methods(Metadata)) < set(protocols.methods(Updatable))


@pytest.mark.parametrize("interface", interfaces.INTERFACES, ids=lambda interface: interface.service)
def test_every_interface_has_methods(interface: interfaces.Interface) -> None:
    assert protocols.methods(interface.protocol)


class Hiding:
    """A provider in a wrapper that defines what an instance plugin must have, and no more."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def validate(self, **arguments: Any) -> Any: ...

    async def provision(self, **arguments: Any) -> Any: ...

    async def label(self, **arguments: Any) -> Any: ...

    async def destroy(self, **arguments: Any) -> Any: ...

    async def describe_instances(self, **arguments: Any) -> Any: ...


class Capably(Provider):
    async def capabilities(self) -> Any: ...


def test_an_interface_that_is_hidden_is_named_and_not_served() -> None:
    plugin = Hiding(Capably())
    assert interfaces.serves(plugin, interfaces.of(Instance))
    assert not interfaces.serves(plugin, interfaces.of(Capable))
    why = "Capable: define capabilities in class Hiding: methods behind __getattr__ are not served"
    assert interfaces.hidden(plugin, interfaces.of(Capable)) == why
    assert not interfaces.hidden(plugin, interfaces.of(Watches))


def test_what_a_daemon_must_serve_and_does_not_is_an_error() -> None:
    interfaces.require({".": (CannedManager(), Judge())}, {".": (Manager,)})
    with pytest.raises(errors.PluginError, match="Manager cannot be served: no method status, commit"):
        interfaces.require({".": (Judge(), Provider())}, {".": (Manager,)})


class Relaying:
    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_manager_by_getattr_is_no_manager() -> None:
    with pytest.raises(errors.PluginError, match="Manager cannot be served"):
        interfaces.require({".": Relaying(CannedManager())}, {".": (Manager,)})
