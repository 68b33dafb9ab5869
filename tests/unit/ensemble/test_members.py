"""The declaration of members: different addresses, different volumes."""

import pytest

from infrakit.ensemble import boot, members
from infrakit.spi.quorum import can_lose, majority
from infrakit.spi.values import Allocation, Attachment, LogicalID
from infrakit.template.boot import Script


def pets(*logical_ids: str) -> Allocation:
    return Allocation(logical_ids=tuple(LogicalID(each) for each in logical_ids))


@pytest.mark.parametrize("allocation", [Allocation(size=3), Allocation(logical_ids=())])
def test_members_need_logical_ids(allocation: Allocation) -> None:
    (problem,) = members.address_problems(allocation, members="members of a test")
    assert problem.message.startswith("members of a test are identified by their fixed addresses, found ")


@pytest.mark.parametrize(
    ("logical_ids", "names", "wrong"),
    [
        (("10.0.0.1", "10.0.0.2", "fd00::1"), False, ()),
        (("10.0.0.1", "node2.example.org"), True, ()),
        (("10.0.0.1", "node2.example.org"), False, ("'node2.example.org' is not the address of a single host",)),
        (("10.0.0.256",), True, ("'10.0.0.256' is not the address of a single host",)),
        (("0.0.0.0", "224.0.0.1", "::"), True, ("'0.0.0.0' is not", "'224.0.0.1' is not", "'::' is not")),
        (("fd00::1", "FD00:0::1"), False, ("'FD00:0::1' is the same as 'fd00::1'",)),
        (("Node.example.org", "node.example.org"), True, ("'node.example.org' is the same as 'Node.example.org'",)),
        (("-a", "a_b", "a..b", ""), True, ("'-a' is", "'a_b' is", "'a..b' is", "'' is")),
    ],
)
def test_each_logical_id_is_a_different_address(
    logical_ids: tuple[str, ...], names: bool, wrong: tuple[str, ...]
) -> None:
    found = [each.message for each in members.address_problems(pets(*logical_ids), members="members", names=names)]
    assert len(found) == len(wrong)
    for message, part in zip(found, wrong, strict=True):
        assert message.startswith(f"the logical ID {part}")


@pytest.mark.parametrize(
    ("volume", "count", "wrong"),
    [
        ("{LogicalID}", 3, ""),
        ("data-{LogicalID}", 3, ""),
        ("", 3, ""),
        ("data", 1, ""),
        ("data", 2, "'data' is the same volume for every member"),
        ("{Group}-{LogicalID}", 1, "'{Group}-{LogicalID}' has an unknown placeholder"),
        ("}", 1, "'}' has an unknown placeholder"),
    ],
)
def test_each_member_has_a_volume_of_its_own(volume: str, count: int, wrong: str) -> None:
    allocation = pets(*(f"10.0.0.{number}" for number in range(1, count + 1)))
    found = [each.message for each in members.volume_problems(volume, allocation, example="test")]
    assert found == ([wrong] if wrong else [])


def test_the_volume_follows_the_logical_id() -> None:
    assert members.attachments("data-{LogicalID}", LogicalID("a")) == (Attachment(id="data-a", type="volume"),)
    assert members.attachments("", LogicalID("a")) == ()


def test_the_host_part_of_a_url() -> None:
    assert [members.host(each) for each in ("10.0.0.1", "fd00::1", "a.example.org")] == [
        "10.0.0.1",
        "[fd00::1]",
        "a.example.org",
    ]


def test_a_declared_boot_script_replaces_the_packaged_one() -> None:
    default = Script(path="", text="default")
    assert boot.declared_script((), "", default=default) is default
    assert boot.declared_script(("a", "b"), "", default=default) == Script(path="Init", text="a\nb")
    assert boot.declared_script("a", "", default=default) == Script(path="Init", text="a")
    by_url = Script(path="InitScriptTemplateURL", address="http://x/boot")
    assert boot.declared_script((), "http://x/boot", default=default) == by_url
    assert not list(boot.script_problems("a", ""))
    assert not list(boot.script_problems((), "/b"))
    assert [each.path for each in boot.script_problems("a", "/b")] == ["InitScriptTemplateURL"]


def test_a_quorum_is_more_than_half_of_the_voters() -> None:
    assert [majority(voters) for voters in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]
    assert [can_lose(voters) for voters in range(8)] == [0, 0, 0, 1, 1, 2, 2, 3]
    assert all(voters - can_lose(voters) >= majority(voters) for voters in range(1, 100))
    assert all(voters - can_lose(voters) - 1 < majority(voters) for voters in range(1, 100))
