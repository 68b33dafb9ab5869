"""Plugins decode their own properties: all problems at once, with paths relative to the properties."""

from typing import Annotated, Any, Literal

import msgspec
import pytest

from infrakit.spec import validate
from infrakit.spi import group as spi_group
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.values import Attachment, GroupID, LogicalID


class Check(spi_group.Strict, frozen=True, kw_only=True):
    """A health check."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    timeout: spi_group.DurationText = "1s"

    def __post_init__(self) -> None:
        if self.port == 13:
            raise ValueError("port 13 is unlucky")


class Tcp(spi_group.Strict, frozen=True, kw_only=True, tag="tcp", tag_field="Kind"):
    port: int


class Http(spi_group.Strict, frozen=True, kw_only=True, tag="http", tag_field="Kind"):
    path: str


class Settings(spi_group.Strict, frozen=True, kw_only=True):
    init: tuple[str, ...] = ()
    check: Check | None = None
    checks: dict[str, tuple[Check, ...]] = msgspec.field(default_factory=dict)
    probe: Tcp | Http | None = None
    mode: Literal["fast", "slow"] = "fast"
    env: dict[str, str] = msgspec.field(default_factory=dict)
    password: str = ""

    def __post_init__(self) -> None:
        if self.init == ("never",):
            raise ValueError("Init may not be never")


def problems_of(raw: bytes, path: str = "") -> dict[str, tuple[str, str]]:
    with pytest.raises(InvalidSpec) as refused:
        validate.properties(msgspec.Raw(raw), Settings, path=path)
    return {p.path: (p.message, p.hint) for p in refused.value.problems}


def test_good_properties_are_decoded() -> None:
    settings = validate.properties(msgspec.Raw(b'{"Init": ["a"], "Check": {"Port": 80}}'), Settings)
    assert settings == Settings(init=("a",), check=Check(port=80))


@pytest.mark.parametrize("raw", [b"null", b"", b" null\n", b"{}"])
def test_null_and_empty_text_are_no_properties(raw: bytes) -> None:
    assert validate.properties(msgspec.Raw(raw), Settings) == Settings()


def test_all_problems_are_reported_at_once() -> None:
    raw = b'{"init": [], "Init": ["a", 1], "Check": {"Port": 0, "Timeout": "x", "Path": "/"}, "Mode": "slw"}'
    assert problems_of(raw) == {
        "init": ("unknown field", 'did you mean "Init"?'),
        "Init[1]": ("found 1, expected text", "put it in quotes"),
        "Check.Port": ("found 0, expected an integer from 1 to 65535", ""),
        "Check.Timeout": ('found "x", expected a duration such as "1m30s"', ""),
        "Check.Path": ("unknown field", "known here: Port, Timeout"),
        "Mode": ('found "slw", expected one of "fast", "slow"', ""),
    }


def test_problems_are_reported_in_the_order_of_the_document() -> None:
    names = [f"z{i}" for i in range(20)]
    raw = '{"Env": {' + ", ".join(f'"{name}": 1' for name in names) + "}}"
    assert list(problems_of(raw.encode())) == [f"Env.{name}" for name in names]


def test_paths_get_a_prefix() -> None:
    assert list(problems_of(b'{"Check": {}}', "Flavor.Properties")) == ["Flavor.Properties.Check.Port"]


def test_a_union_is_validated_by_the_type_of_its_tag() -> None:
    assert problems_of(b'{"Probe": {"Kind": "http", "Path": 1}}') == {
        "Probe.Path": ("found 1, expected text", "put it in quotes")
    }
    assert problems_of(b'{"Probe": {"Kind": "udp"}}') == {"Probe.Kind": ('found "udp", expected "tcp" or "http"', "")}
    assert list(problems_of(b'{"Probe": {}}')) == ["Probe.Kind", "Probe.Port"]
    assert problems_of(b'{"Probe": 7}')["Probe"][0].startswith("found 7, expected a mapping")


def test_names_that_contain_dots_are_quoted_in_paths() -> None:
    assert list(problems_of(b'{"Env": {"10.0.0.1": 5}}')) == ['Env["10.0.0.1"]']


def test_rules_outside_the_schema_are_reported_with_their_own_message() -> None:
    assert problems_of(b'{"Init": ["never"]}') == {"": ("init may not be never", "")}
    assert problems_of(b'{"Check": {"Port": 13}}') == {"Check": ("port 13 is unlucky", "")}
    assert problems_of(b'{"Checks": {"a": [{"Port": 13}]}}') == {"Checks": ("port 13 is unlucky", "")}


@pytest.mark.parametrize("raw", [b"{", b"[1", b'{"Init": [}', b"\xff", b'{"Mode": NaN}', b"[" * 100_000])
def test_invalid_json_is_refused(raw: bytes) -> None:
    assert problems_of(raw)[""][0].startswith("not JSON")


@pytest.mark.parametrize("raw", [b"[]", b"5", b'"x"'])
def test_properties_that_are_not_a_mapping_are_refused(raw: bytes) -> None:
    assert problems_of(raw)[""][0].endswith("expected a mapping")


def test_secrets_are_not_shown() -> None:
    assert problems_of(b'{"Password": 12345, "Env": {"API_KEY": 67890, "n": 1}}') == {
        "Password": ("found another value, expected text", "put it in quotes"),
        "Env.API_KEY": ("found another value, expected text", "put it in quotes"),
        "Env.n": ("found 1, expected text", "put it in quotes"),
    }


def test_the_number_of_reported_problems_is_limited() -> None:
    assert 1 <= len(problems_of(b'{"Init": [' + b",".join([b"1"] * 10_000) + b"]}")) <= 100


def attachments_by_holder(*holders: tuple[str, str, str]) -> dict[tuple[GroupID, LogicalID], tuple[Attachment, ...]]:
    found: dict[Any, tuple[Attachment, ...]] = {}
    for group, logical_id, volume in holders:
        attachment = Attachment(id=volume, type="volume")
        found[group, logical_id] = (*found.get((group, logical_id), ()), attachment)
    return found


def test_an_attachment_follows_one_logical_id() -> None:
    assert validate.conflicts(attachments_by_holder(("a", "1", "v1"), ("a", "2", "v2"), ("b", "1", "v3"))) == {}
    assert validate.conflicts(attachments_by_holder(("a", "1", "v1"), ("a", "2", "v1"), ("b", "1", "v1"))) == {
        "a": [conflict("v1", "2")],
        "b": [conflict("v1", "1")],
    }


def conflict(volume: str, logical_id: str) -> Problem:
    what = f'the attachment "{volume}" of type "volume"'
    return Problem(
        path="",
        message=f'{what} is given to "{logical_id}" and already to "1" of the group "a"',
        hint="an attachment follows one logical ID",
    )


def test_attachments_of_different_types_are_different() -> None:
    first, second = Attachment(id="v", type="volume"), Attachment(id="v", type="address")
    assert (
        validate.conflicts({(GroupID("a"), LogicalID("1")): (first,), (GroupID("a"), LogicalID("2")): (second,)}) == {}
    )
