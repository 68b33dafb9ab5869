"""Validation by the flavor vanilla: what it refuses, and the path that it reports."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infrakit.flavors.vanilla import Vanilla
from infrakit.spi.errors import InvalidSpec
from infrakit.spi.values import Allocation, LogicalID

CATTLE = Allocation(size=3)
PETS = Allocation(logical_ids=(LogicalID("10.0.0.1"), LogicalID("10.0.0.2")))
VOLUME = {"ID": "v", "Type": "volume"}


async def paths(properties: Any, allocation: Allocation = CATTLE) -> dict[str, str]:
    """The problems by path."""
    raw = msgspec.Raw(msgspec.json.encode(properties))
    try:
        await Vanilla().validate(properties=raw, allocation=allocation)
    except InvalidSpec as error:
        return {each.path: each.message for each in error.problems}
    return {}


@pytest.mark.parametrize(
    ("properties", "allocation"),
    [
        (None, CATTLE),
        ({"Init": ["echo hi"], "Tags": {"tier": "web"}}, CATTLE),
        ({"Attachments": None}, CATTLE),
        ({"Attachments": [VOLUME]}, Allocation(size=1)),
        ({"Attachments": [VOLUME]}, Allocation(logical_ids=(LogicalID("10.0.0.1"),))),
        ({"Attachments": {"10.0.0.1": [VOLUME]}, "ByLogicalID": {"10.0.0.2": {"Init": "x"}}}, PETS),
        ({"Health": {"TCP": {"Address": "${LOGICAL_ID}:80"}, "Timeout": "1m30s", "Failures": 5}}, PETS),
        ({"Health": {"TCP": {"Address": "[::1]:${PORT}"}}, "Port": {"Base": 8100}}, CATTLE),
        ({"Health": {"HTTP": {"URL": "http://${LOGICAL_ID}:${TAG_port}/h?cost=$$5", "Status": 204}}}, PETS),
        ({"Health": {"Command": ["check", "${ID}", "${GROUP}", "${SEQUENCE}"]}}, CATTLE),
        ({"Health": {"Command": "test $HOME && ${ANYTHING:-true}"}}, CATTLE),
        ({"Drain": {"Command": ["leave", "${LOGICAL_ID}"], "Timeout": "5s"}, "Quorum": True}, PETS),
    ],
)
async def test_valid_properties_are_accepted(properties: Any, allocation: Allocation) -> None:
    assert await paths(properties, allocation) == {}


@pytest.mark.parametrize(
    ("properties", "allocation", "path", "words"),
    [
        ({"Quorum": True}, CATTLE, "Quorum", "has a Size"),
        ({"Tags": {"": "x"}}, CATTLE, "Tags", "no name"),
        ({"Tags": {"infrakit.group": "x"}}, CATTLE, 'Tags["infrakit.group"]', "InfraKit's own"),
        ({"InitScriptTemplateURL": "file:///x"}, CATTLE, "InitScriptTemplateURL", "file:///x: no such file"),
        ({"InitScriptTemplateURL": "-"}, CATTLE, "InitScriptTemplateURL", "standard input"),
        ({"Init": ["a", "{{ b }}"]}, CATTLE, "Init", "line 2: 'b' is not defined"),
        (
            {"ByLogicalID": {"10.0.0.2": {"Init": "{{ logical_it }}"}}},
            PETS,
            'ByLogicalID["10.0.0.2"].Init',
            "line 1: 'logical_it' is not defined",
        ),
        ({"Init": "a", "InitScriptTemplateURL": "u"}, CATTLE, "InitScriptTemplateURL", "not both"),
        ({"Attachments": [VOLUME]}, CATTLE, "Attachments", "each of the 3"),
        ({"Attachments": [VOLUME]}, PETS, "Attachments", "each of the 2"),
        ({"Attachments": {"10.0.0.1": [VOLUME]}}, CATTLE, 'Attachments["10.0.0.1"]', "has a Size"),
        ({"Attachments": {"10.0.0.9": [VOLUME]}}, PETS, 'Attachments["10.0.0.9"]', "not among"),
        (
            {"Attachments": {"10.0.0.1": [VOLUME], "10.0.0.2": [VOLUME]}},
            PETS,
            'Attachments["10.0.0.2"][0]',
            'is declared at Attachments["10.0.0.1"][0] already',
        ),
        (
            {"Attachments": {"10.0.0.1": [VOLUME, VOLUME]}},
            PETS,
            'Attachments["10.0.0.1"][1]',
            'is declared at Attachments["10.0.0.1"][0] already',
        ),
        ({"ByLogicalID": {"10.0.0.9": {}}}, PETS, 'ByLogicalID["10.0.0.9"]', "not among"),
        (
            {"ByLogicalID": {"10.0.0.1": {"Tags": {"infrakit.x": "y"}}}},
            PETS,
            'ByLogicalID["10.0.0.1"].Tags["infrakit.x"]',
            "InfraKit's own",
        ),
        ({"Port": {"Base": 65533}}, CATTLE, "Port.Base", "above 65535"),
        ({"Health": {}}, CATTLE, "Health", "found none"),
        ({"Health": {"Command": "a", "TCP": {"Address": "h:1"}}}, CATTLE, "Health", "found Command and TCP"),
        ({"Health": {"Command": ["a", "${NOPE}"]}}, CATTLE, "Health.Command[1]", "unknown placeholder ${NOPE}"),
        ({"Health": {"Command": ["a $"]}}, CATTLE, "Health.Command[0]", "starts no placeholder"),
        ({"Health": {"TCP": {"Address": "h:${PORT}"}}}, CATTLE, "Health.TCP.Address", "needs the property Port"),
        ({"Health": {"TCP": {"Address": "${LOGICAL_ID}:1"}}}, CATTLE, "Health.TCP.Address", "no ${LOGICAL_ID}"),
        ({"Health": {"TCP": {"Address": "${SEQUENCE}:1"}}}, PETS, "Health.TCP.Address", "no ${SEQUENCE}"),
        ({"Health": {"TCP": {"Address": "host"}}}, CATTLE, "Health.TCP.Address", "not host:port"),
        ({"Health": {"TCP": {"Address": "host:70000"}}}, CATTLE, "Health.TCP.Address", "not host:port"),
        ({"Health": {"HTTP": {"URL": "ftp://h/"}}}, CATTLE, "Health.HTTP.URL", "expected http"),
        ({"Health": {"HTTP": {"URL": "http:///x"}}}, CATTLE, "Health.HTTP.URL", "no host"),
        ({"Health": {"HTTP": {"URL": "http://h:99999/"}}}, CATTLE, "Health.HTTP.URL", "no address"),
        ({"Drain": {"Command": ["x", "${nope}"]}}, CATTLE, "Drain.Command[1]", "unknown placeholder"),
    ],
)
async def test_invalid_properties_are_refused_with_their_path(
    properties: Any, allocation: Allocation, path: str, words: str
) -> None:
    found = await paths(properties, allocation)
    assert list(found) == [path]
    assert words in found[path]


@pytest.mark.parametrize(
    "properties",
    [
        {"Inti": ["x"]},
        {"Tags": {"a": 1}},
        {"Port": {"Base": 0}},
        {"Health": {"Command": []}},
        {"Health": {"Command": ["a"], "Failures": 0}},
        {"Health": {"Command": ["a"], "Timeout": "soon"}},
        {"Attachments": [{"ID": "v", "Type": ""}]},
        [],
    ],
)
async def test_a_wrong_type_or_an_unknown_name_is_refused(properties: Any) -> None:
    assert await paths(properties)


async def test_every_problem_is_reported_at_once() -> None:
    found = await paths({"Tags": {"infrakit.a": "", "infrakit.b": ""}, "Health": {}, "InitScriptTemplateURL": "u"})
    assert len(found) == 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("aI1.\0é", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aI1.\0é", max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("Init", "Tags", "Attachments", "ByLogicalID", "Quorum", "Port", "Health", "Drain", "InitScriptTemplateURL")
TEXT = st.text(alphabet="${}TAG_xPORLICD[]:/@8.\0 ", max_size=24)
ALMOST = st.fixed_dictionaries(
    {
        "Health": st.fixed_dictionaries(
            {},
            optional={
                "Command": st.lists(TEXT, min_size=1),
                "TCP": st.fixed_dictionaries({"Address": TEXT}),
                "HTTP": st.fixed_dictionaries({"URL": TEXT.map("http://{}".format)}),
            },
        )
    }
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.dictionaries(st.sampled_from(FIELDS), JSON) | ALMOST, st.sampled_from([CATTLE, PETS, Allocation()]))
async def test_any_input_is_accepted_or_refused_with_paths(properties: Any, allocation: Allocation) -> None:
    for path, message in (await paths(properties, allocation)).items():
        assert path
        assert message
