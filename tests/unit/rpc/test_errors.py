"""Every error is transferred completely: type, message, location, remedy, and the fields of its type."""

import json
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrakit.rpc import envelope, failures
from infrakit.rpc.dispatch import Dispatcher
from infrakit.spi import errors
from tests.unit.rpc.asking import ask
from tests.unit.rpc.plugins import Provider

PROBLEMS = (
    errors.Problem(path="groups[1].properties.Size", message="expected a number", line=7, hint="did you mean 3?"),
    errors.Problem(path="", message="too large"),
)
PLACE = {"where": "web.yaml", "remedy": "ask again"}


def one_of_each() -> list[errors.InfraKitError]:
    """An instance of every type of spi.errors."""
    created: list[errors.InfraKitError] = []
    for kind in _kinds(errors.InfraKitError):
        if kind is errors.InvalidSpec:
            created.append(errors.InvalidSpec(PROBLEMS, **PLACE))
        elif kind is errors.Throttled:
            created.append(errors.Throttled("slow down", after_s=2.5, **PLACE))
        else:
            created.append(kind(f"it is {kind.__name__}", **PLACE))
    return created


def _kinds(kind: type[errors.InfraKitError]) -> Iterator[type[errors.InfraKitError]]:
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield inner
            yield from _kinds(inner)


async def transferred(error: Exception) -> errors.InfraKitError:
    """The error as the other side of a connection sees it."""
    provider = Provider()
    provider.failure = error
    reply = await ask(Dispatcher({".": provider}), "Instance.Validate", {"Properties": {}})
    parsed = envelope.ClientError(
        message=reply["error"]["message"], data=msgspec.Raw(json.dumps(reply["error"]["data"]).encode())
    )
    return failures.error(parsed.message, parsed.error_data())


def test_there_are_ten_types_of_errors() -> None:
    assert len(one_of_each()) == 10


@pytest.mark.parametrize("error", one_of_each(), ids=lambda error: type(error).__name__)
async def test_an_error_is_transferred_completely(error: errors.InfraKitError) -> None:
    found = await transferred(error)
    assert type(found) is type(error)
    assert (found.what, found.where, found.remedy, str(found)) == (error.what, error.where, error.remedy, str(error))
    assert vars(found) == vars(error)  # after_s, problems


async def test_the_message_is_what_clients_of_the_original_show() -> None:
    provider = Provider()
    provider.failure = errors.Refused("no room", where="rack 7", remedy="buy one")
    reply = await ask(Dispatcher({".": provider}), "Instance.Validate", {"Properties": {}})
    assert reply["error"]["code"] == failures.APPLICATION_ERROR
    assert reply["error"]["message"] == "rack 7: no room; buy one"


@pytest.mark.parametrize("error", [errors.InfraKitError("odd"), ValueError("odd"), OSError(2, "odd")])
async def test_any_other_exception_becomes_a_plugin_error(error: Exception) -> None:
    found = await transferred(error)
    assert type(found) is errors.PluginError
    assert "odd" in found.what


_any = st.text(st.characters(exclude_categories=()))


@given(_any, _any, _any)
async def test_any_text_is_transferred(what: str, where: str, remedy: str) -> None:
    """Also text with lone surrogates, which file names may contain: escaped."""
    for error in (
        errors.Conflict(what, where=where, remedy=remedy),
        errors.InvalidSpec([errors.Problem(path=what, message=where, hint=remedy)]),
    ):
        found = await transferred(error)
        assert type(found) is type(error)
        assert found.what == error.what.encode(errors="backslashreplace").decode()
        assert found.where == error.where.encode(errors="backslashreplace").decode()


@pytest.mark.parametrize("what", ["x \udcff", "\ud800"])
async def test_lone_surrogates_are_escaped(what: str) -> None:
    found = await transferred(errors.Refused(what, where=what, remedy=what))
    assert type(found) is errors.Refused
    assert found.what == what.encode(errors="backslashreplace").decode()
