"""Decoding like the original: names in any case, null for empty values, and properties byte for byte."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrakit.rpc import liberal, wire
from infrakit.spi.instance import Instance
from infrakit.spi.values import ABSENT, Allocation, Attachment, Description, InstanceID, InstanceSpec, Wire

SPEC = InstanceSpec(
    properties=msgspec.Raw(b'{"b":1, "a":9007199254740993, "b":2}'),
    tags={"role": "x", "Role": "y"},
    init="echo",
    attachments=(Attachment(id="vol-1", type="ebs"),),
)


class Nested(Wire, frozen=True, kw_only=True):
    """Every kind of field that contains other fields."""

    spec: InstanceSpec
    members: Sequence[Description]
    by_name: Mapping[str, Allocation]
    maybe: Allocation | None = None
    counts: Annotated[tuple[int, ...], msgspec.Meta(max_length=3)]
    properties: msgspec.Raw
    note: str = "none"


TEXT = (
    '{"Spec":{"Properties":{"b":1, "a":9007199254740993, "b":2},"Tags":{"role":"x","Role":"y"},"Init":"echo",'
    '"Attachments":[{"ID":"vol-1","Type":"ebs"}]},"Members":[{"ID":"i-1","Tags":null}],"ByName":{"Web":{"Size":3}},'
    '"Maybe":{"LogicalIDs":["a"]},"Counts":[1,2],"Properties":[true],"Note":"some"}'
)


def _described(value: Nested) -> Any:
    """Comparable: raw values compare by identity."""
    return msgspec.json.decode(msgspec.json.encode(value))


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text,
        lambda text: _rename(text, str.lower),
        lambda text: _rename(text, str.upper),
        lambda text: _rename(text, str.swapcase),
    ],
)
def test_field_names_have_any_case_at_any_depth(spell: Any) -> None:
    assert _described(liberal.decode(spell(TEXT).encode(), Nested)) == _described(
        msgspec.json.decode(TEXT, type=Nested)
    )


def _rename(text: str, spell: Any) -> str:
    for name in ("Spec", "Properties", "Tags", "Init", "Attachments", "ID", "Type", "Members", "ByName", "Size"):
        text = text.replace(f'"{name}":', f'"{spell(name)}":')
    for name in ("Maybe", "LogicalIDs", "Counts", "Note"):
        text = text.replace(f'"{name}":', f'"{spell(name)}":')
    return text


def test_a_name_with_an_escape_has_any_case_too() -> None:
    assert liberal.decode(b'{"Properties":{},"\\u0074ags":{"role":"x"}}', InstanceSpec).tags == {"role": "x"}


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace('"Tags":null', '"Tags":{"a":"b"}'),
        TEXT.replace('"some"', "null"),
        TEXT.replace('"Counts":[1,2],', ""),
        TEXT.replace('"Counts":[1,2]', '"Counts":null'),
        TEXT.replace('"Maybe"', '"maybe"'),
        TEXT.replace('"ID":"i-1"', '"ID":"i-1","Unknown":1,"Tags":{},"tags":{"c":"d"}'),
    ],
)
def test_a_text_without_the_first_pass_means_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = _described(liberal.decode(text.encode(), Nested))
    monkeypatch.setattr(liberal, "_SAMPLE_BYTES", 0)  # every text is long
    assert _described(liberal.decode(text.encode(), Nested)) == quick


def test_a_text_as_declared_takes_no_first_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(liberal, "_named")
    assert liberal.decode(TEXT.replace('"Tags":null', '"Tags":{}').encode(), Nested).note == "some"


def test_keys_of_maps_keep_their_case() -> None:
    assert liberal.decode(TEXT.encode(), Nested).spec.tags == SPEC.tags


def test_properties_are_kept_byte_for_byte() -> None:
    """Key order, duplicates and large numbers are left to the plugin."""
    found = liberal.decode(b'{"properties":{"b":1, "a":9007199254740993, "b":2}}', InstanceSpec)
    assert bytes(found.properties) == bytes(SPEC.properties)


def test_absent_and_null_fields_are_empty() -> None:
    for text in (
        b'{"Spec":{}}',
        b'{"Spec":{},"Members":null,"ByName":null,"Counts":null,"Properties":null,"Note":null}',
    ):
        found = liberal.decode(text, Nested)
        assert (found.members, found.by_name, found.counts) == ([], {}, ())
        assert bytes(found.properties) == bytes(ABSENT)
        assert found.note == "none"
        assert found.maybe is None


@pytest.mark.parametrize("text", ["{}", '{"Spec":null}', '{"Spec":5}', '{"Spec":[]}', "null", "5", "[]"])
def test_a_missing_required_field_is_an_error(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        liberal.decode(text.encode(), Nested)


@pytest.mark.parametrize("type_", [InstanceID, str, int])
def test_null_is_neither_text_nor_number(type_: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        liberal.decode(b"null", type_)


def test_an_error_names_the_path() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.Members\[1\]\.ID"):
        liberal.decode(b'{"spec":{},"members":[{"id":"a"},{"id":5}]}', Nested)


def test_unknown_fields_are_ignored() -> None:
    assert liberal.decode(b'{"Size":3,"Colour":"red"}', Allocation) == Allocation(size=3)


def test_the_last_of_two_spellings_wins() -> None:
    assert liberal.decode(b'{"Size":3,"size":4}', Allocation) == Allocation(size=4)
    assert liberal.decode(b'{"size":4,"Size":3}', Allocation) == Allocation(size=3)


_descriptions = st.builds(
    Description,
    id=st.text(),
    logical_id=st.none() | st.text(),
    tags=st.none() | st.dictionaries(st.text(), st.text()),
    attachments=st.just(msgspec.UNSET) | st.lists(st.builds(Attachment, id=st.text(), type=st.text())).map(tuple),
)


@given(_descriptions)
def test_both_decoders_decode_our_encoding_alike(description: Description) -> None:
    text = msgspec.json.encode(description)
    assert liberal.decode(text, Description) == description
    assert msgspec.json.decode(text, type=Description) == description


LISTING = '{"jsonrpc":"2.0","id":1,"result":{"Type":"","Descriptions":[%s]}}'
MEMBER = '{"ID":"i-%d","LogicalID":"10.0.0.%d","Tags":{"infrakit.group":"web","state":"y"}}'


@pytest.mark.parametrize("count", [1, 2, 1000])
@pytest.mark.parametrize(("name", "spelt"), [("Tags", "tags"), ("Tags", "TAGS"), ("LogicalID", "logicalId")])
def test_a_result_loses_no_field_that_is_spelled_in_another_case(count: int, name: str, spelt: str) -> None:
    describe = wire.method(Instance.describe_instances)
    text = LISTING % ",".join(MEMBER % (number, number) for number in range(count))
    expected = describe.read(text.encode()).value
    assert all(each.tags and each.logical_id for each in expected)
    assert describe.read(text.replace(f'"{name}":', f'"{spelt}":').encode()).value == expected


def test_the_spelling_is_checked_where_a_field_could_be_lost() -> None:
    assert {name for name, _ in liberal.optional(Sequence[Description])} == {
        b'"Attachments"', b'"LogicalID"', b'"Properties"', b'"State"', b'"Tags"',
    }  # fmt: skip
    assert liberal.optional(int) == ()
    assert not liberal.is_misspelt(b'{"ID":"a","Tags":{}}', Description)
    assert liberal.is_misspelt(b'{"ID":"a","tags":{}}', Description)
