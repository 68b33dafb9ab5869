"""Every command against a daemon with canned responses: its requests, its output and its exit code."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from infrakit.spi.errors import (
    Conflict,
    Halted,
    InfraKitError,
    InvalidSpec,
    NotFound,
    NotLeader,
    OutcomeUnknown,
    PluginError,
    Problem,
    Refused,
    Throttled,
    Unreachable,
)
from infrakit.spi.instance import LogPart
from infrakit.spi.manager import Committed, GroupPlan, Planned, Reasoned
from infrakit.spi.values import GroupID
from tests.unit.cli.canned import CannedManager
from tests.unit.cli.command_line import CommandLine

REQUESTS: list[tuple[list[str], tuple[str, dict[str, Any]], str]] = [
    (["halt", "-m", "x"], ("halt", {"group": None, "why": "x"}), "Halted everything"),
    (["halt", "web", "-m", "x"], ("halt", {"group": "web", "why": "x"}), "Halted web"),
    (["adopt", "5f0c2a91", "-m", "x"], ("adopt", {"cluster": "5f0c2a91", "why": "x"}), "Adopted the cluster 5f0c2a91"),
    (
        ["adopt", "AB:CD", "--account", "docker", "-m", "x"],
        ("adopt_account", {"plugin": "docker", "identity": "AB:CD", "why": "x"}),
        "Adopted the account AB:CD of docker",
    ),
    (["unhalt"], ("unhalt", {"group": None, "why": "unhalt"}), "Lifted the halt of everything"),
    (
        ["group", "scale", "web", "5", "--expect", "7"],
        ("scale", {"group": "web", "size": 5, "why": "scale web to 5", "expected": 7}),
        "Scaled web to 5",
    ),
    (["group", "pause", "web"], ("pause", {"group": "web", "why": "pause web"}), "Paused"),
    (
        ["group", "resume", "web", "--despite-unhealthy"],
        ("resume", {"group": "web", "why": "resume web", "despite_unhealthy": True}),
        "Resumed web",
    ),
    (["group", "abort", "web", "-m", "x"], ("abort", {"group": "web", "why": "x"}), "Aborted"),
    (["group", "rollback", "web"], ("rollback", {"group": "web", "why": "rollback web"}), "Rolled web back"),
    (["group", "free", "web"], ("free", {"group": "web", "why": "free web"}), "Freed web"),
    (
        ["group", "destroy", "web", "--yes", "--volumes"],
        ("destroy", {"group": "web", "why": "destroy web", "volumes": True}),
        "Destroying web",
    ),
    (
        ["instance", "destroy", "web-1"],
        ("destroy_instance", {"instance": "web-1", "why": "destroy web-1", "replace": True}),
        "Destroying web-1",
    ),
    (
        ["instance", "destroy", "web-1", "--no-replace", "-m", "x"],
        ("destroy_instance", {"instance": "web-1", "why": "x", "replace": False}),
        "Destroying web-1",
    ),
    (
        ["restore", "3", "-m", "x", "--expect", "7"],
        ("restore", {"version": 3, "why": "x", "expected": 7}),
        "Restored version 3",
    ),
]


@pytest.mark.parametrize(("arguments", "sent", "message"), REQUESTS, ids=[" ".join(o[0]) for o in REQUESTS])
async def test_a_change_is_sent_to_the_daemon_once_with_who_and_why(
    cli: CommandLine, manager: CannedManager, arguments: list[str], sent: tuple[str, dict[str, Any]], message: str
) -> None:
    done = await cli(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(message)
    assert "declaration 8" in done.out
    assert "web.properties.Allocation.Size: 3 -> 5" in done.out
    method, parameters = sent
    assert manager.orders == [(method, parameters | {"who": "ann"})]


async def test_a_change_prints_the_new_version_as_json_or_yaml(cli: CommandLine, manager: CannedManager) -> None:
    for fmt, decode in (("json", json.loads), ("yaml", yaml.safe_load)):
        done = await cli("group", "scale", "web", "5", "-o", fmt)
        assert decode(done.out) == {
            "Version": 8,
            "Unchanged": False,
            "Changes": [{"Path": "web.properties.Allocation.Size", "Old": "3", "New": "5"}],
            "Notes": [],
        }


async def test_a_command_that_changes_nothing_reports_no_changes(cli: CommandLine, manager: CannedManager) -> None:
    manager.committed = Committed(version=7, unchanged=True)
    for words in (["group", "scale", "web", "3"], ["group", "abort", "web"]):
        assert await cli(*words) == (0, "No changes: declaration 7 already matches.\n", "")
    assert (await cli("unhalt")).out.startswith("Nothing to lift: no halt of everything; `infrakit status`")
    assert await cli("unhalt", "web") == (0, "Nothing to lift: web is not halted.\n", "")
    # A halt changes no declared group, and yet it is a change.
    manager.committed = Committed(version=8)
    assert await cli("halt", "-m", "x") == (0, "Halted everything: declaration 8.\n", "")


async def test_a_change_prints_the_notes_of_the_daemon(cli: CommandLine, manager: CannedManager) -> None:
    manager.committed = Committed(version=8, notes=("web is halted by bob (x): no action is taken",))
    done = await cli("group", "scale", "web", "3")
    assert done == (0, "Scaled web to 3: declaration 8.\nweb is halted by bob (x): no action is taken\n", "")


async def test_a_log_is_followed_to_its_end(cli: CommandLine, manager: CannedManager) -> None:
    manager.parts = [
        LogPart(text="one\ntwo\n", position=8),
        LogPart(text="three", position=13),
        LogPart(text="", position=13),
        LogPart(text="", position=13, ended=True),
    ]
    done = await cli("instance", "logs", "web-1", "--follow", "-n", "2")
    assert done == (0, "one\ntwo\nthree", "infrakit: web-1 has terminated\n")
    polls = [(parameters["after"], parameters["lines"]) for method, parameters in manager.orders if method == "tail"]
    assert polls == [(None, 2), (8, 100), (13, 100), (13, 100)]


async def test_commit_sends_the_text_and_not_the_path(cli: CommandLine, manager: CannedManager, home: Path) -> None:
    (home / "cluster.yaml").write_bytes(b"\xef\xbb\xbfgroups: \xc3\xa4\n")
    assert (await cli("commit", "cluster.yaml", "-m", "launch", "--expect", "7")).code == 0
    assert (await cli("commit", "-", stdin=b"[]")).code == 0
    assert manager.orders == [
        (
            "commit",
            {"text": "groups: ä\n", "source": "cluster.yaml", "who": "ann", "why": "launch", "expected": 7},
        ),
        ("commit", {"text": "[]", "source": "stdin", "who": "ann", "why": "commit stdin", "expected": None}),
    ]


async def test_consent_is_sent_with_its_number(cli: CommandLine, manager: CannedManager, home: Path) -> None:
    (home / "f.yaml").write_text("[]")
    assert (await cli("commit", "f.yaml", "--destroys", "7")).code == 0
    assert (await cli("restore", "3", "-m", "older", "--destroys", "8")).code == 0
    assert [(method, parameters["destroys"]) for method, parameters in manager.orders] == [
        ("commit", 7),
        ("restore", 8),
    ]
    assert (await cli("commit", "f.yaml", "--destroys", "-1")).code == 1


async def test_plan_shows_the_consent_that_a_commit_needs(cli: CommandLine, manager: CannedManager, home: Path) -> None:
    (home / "f.yaml").write_text("[]")
    manager.planned = Planned(base_version=7, destroys=4, consent="it destroys 4: infrakit commit f.yaml --destroys 4")
    shown = (await cli("plan", "f.yaml")).out.splitlines()
    assert shown[1] == "! needs consent: it destroys 4: infrakit commit f.yaml --destroys 4"
    assert json.loads((await cli("plan", "f.yaml", "-o", "json")).out)["Destroys"] == 4


@pytest.mark.parametrize("command", ["commit", "plan", "validate", "up"])
async def test_an_unreadable_document_exits_1(cli: CommandLine, home: Path, command: str) -> None:
    done = await cli(command, "nothing.yaml")
    assert done == (1, "", "infrakit: nothing.yaml: no such file\n")
    (home / "latin.yaml").write_bytes(b"- kind: group\n- \xe4\n")
    done = await cli(command, "latin.yaml")
    assert done == (1, "", "latin.yaml: line 2: not UTF-8: found the byte 0xe4 (save the document as UTF-8)\n")
    assert (await cli(command, "http://127.0.0.1:1/x")).code == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            InvalidSpec(
                [
                    Problem(path="groups[0].x", message="unknown field", line=3, hint="did you mean y?"),
                    Problem(path="groups[1]", message="expected an object"),
                ],
                where="f.yaml",
            ),
            1,
            "f.yaml: line 3: groups[0].x: unknown field (did you mean y?)\nf.yaml: groups[1]: expected an object\n",
        ),
        (NotFound("no group web", remedy="see group ls"), 1, "infrakit: no group web; see group ls\n"),
        (Conflict("version 8 is newer"), 2, "infrakit: version 8 is newer\n"),
        (Refused("pets have no size", where="group web"), 2, "infrakit: group web: pets have no size\n"),
        (Halted("halted by ann"), 2, "infrakit: halted by ann\n"),
        (NotLeader("box2 leads"), 2, "infrakit: box2 leads\n"),
        (Throttled("slow down", after_s=3), 2, "infrakit: slow down\n"),
        (PluginError("it failed"), 2, "infrakit: it failed\n"),
        (OutcomeUnknown("no answer"), 3, "infrakit: no answer\n"),
        (Unreachable("the store is away", remedy="wait"), 2, "infrakit: the store is away; wait\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_an_error_is_one_message_and_its_exit_code(
    cli: CommandLine, manager: CannedManager, error: InfraKitError, code: int, message: str
) -> None:
    manager.failures["scale"] = error
    assert await cli("group", "scale", "web", "5") == (code, "", message)
    assert manager.orders == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["events"],
        ["down", "--yes"],
        ["group", "ls"],
        ["history"],
        ["halt", "-m", "x"],
        ["status", "--watch"],
    ],
    ids=" ".join,
)
async def test_without_a_daemon_the_exit_code_is_3_and_the_remedy_is_printed(
    cli: CommandLine, home: Path, arguments: list[str]
) -> None:
    done = await cli(*arguments)
    assert done.code == 3
    assert done.out == ""
    assert str(home / "plugins" / "group") in done.err
    assert "infrakit up starts it with the last declaration" in done.err
    assert len(done.err.splitlines()) == 1


async def test_plan_is_a_diff_in_order_with_reasons(cli: CommandLine, manager: CannedManager, home: Path) -> None:
    (home / "f.yaml").write_text("[]")
    manager.planned = Planned(
        base_version=7,
        changes=manager.committed.changes,
        groups=(
            GroupPlan(
                group=GroupID("web"),
                summary="one more, one replaced",
                actions=(
                    Reasoned(verb="destroy", subject="web-1", reason="made from v1", rule="out-of-date", order=2),
                    Reasoned(verb="create", subject="4", reason="slot 4 has no instance", rule="no-instance", order=1),
                    Reasoned(verb="destroy", subject="web-9", reason="the newest", rule="surplus", order=3),
                ),
                waiting=(Reasoned(verb="wait", subject="web-2", reason="it settles", remedy="8s more"),),
            ),
            GroupPlan(group=GroupID("store"), summary="nothing to do"),
        ),
    )
    done = await cli("plan", "f.yaml")
    assert done.code == 0
    assert done.out.splitlines() == [
        "f.yaml would change declaration 7:",
        "  ~ web.properties.Allocation.Size: 3 -> 5",
        "",
        "web: one more, one replaced",
        "  1. + create 4: slot 4 has no instance [no-instance]",
        "  2. ~ replace web-1: made from v1 [out-of-date]",
        "  3. - destroy web-9: the newest [surplus]",
        "  = wait web-2: it settles; 8s more",
        "",
        "store: nothing to do",
    ]
    assert manager.orders == [("plan", {"text": "[]", "source": "f.yaml"})]
    assert json.loads((await cli("plan", "f.yaml", "-o", "json")).out)["BaseVersion"] == 7


async def test_why_takes_a_group_or_one_of_its_instances(cli: CommandLine, manager: CannedManager) -> None:
    done = await cli("why", "web/2")
    assert done.code == 0
    assert done.out.startswith("it is being healed\n")
    for part in ("Facts", "1s ago", "Now", "= wait web-2", "[unhealthy-after]", "History", "11:21:54 created"):
        assert part in done.out
    await cli("why", "web", "-o", "yaml")
    assert manager.orders == [
        ("why", {"group": "web", "subject": "2"}),
        ("why", {"group": "web", "subject": ""}),
    ]


async def test_history_lists_and_shows_versions(cli: CommandLine, manager: CannedManager) -> None:
    head, row = (await cli("history")).out.splitlines()
    assert head.split() == ["VERSION", "WHEN", "WHO", "WHAT", "DECLARED", "WHY"]
    assert row.split() == ["7", "2026-11-23", "11:21:54Z", "ann@box", "commit", "web", "launch"]
    shown = await cli("history", "--show", "3")
    assert json.loads(shown.out) == [{"kind": "group", "metadata": {"name": "web"}}]
    assert manager.orders == [("show", {"version": 3})]


async def test_groups_and_instances_are_listed_and_described(cli: CommandLine, manager: CannedManager) -> None:
    assert [line.split()[0] for line in (await cli("group", "ls")).out.splitlines()] == ["GROUP", "store", "web"]
    described = await cli("group", "describe", "web")
    assert "web-1" in described.out
    assert "store" not in described.out
    assert set(json.loads((await cli("group", "describe", "web", "-o", "json")).out)) == {"Group", "Members"}

    listed = (await cli("instance", "ls")).out
    assert [line.split()[0] for line in listed.splitlines()] == ["INSTANCE", "web-1", "store-1", "-"]
    assert "red alert" in listed
    assert "\x1b" not in listed
    assert "[31m" not in listed
    assert [m["ID"] for m in json.loads((await cli("instance", "ls", "store", "-o", "json")).out)] == ["store-1"]
    for name in ("store-1", "127.0.0.12"):
        one = (await cli("instance", "describe", name)).out
        assert "vol-12 (volume)" in one
        assert "tier=data" in one
    for arguments in (("group", "describe", "nope"), ("instance", "describe", "nope")):
        done = await cli(*arguments)
        assert done.code == 1
        assert "'nope'" in done.err


async def test_logs_are_printed_unchanged(cli: CommandLine, manager: CannedManager) -> None:
    assert await cli("instance", "logs", "web-1", "-n", "2") == (0, "one\ntwo\n", "")
    assert manager.orders == [("logs", {"instance": "web-1", "lines": 2})]


async def test_the_leader_and_every_replica_are_shown(cli: CommandLine, manager: CannedManager) -> None:
    first, second, _, head, *rows = (await cli("leader")).out.splitlines()
    assert first == "box leads, epoch 3, since 2026-11-23 11:21:54Z"
    assert second == "box last observed the leadership 0s ago: the local member of etcd leads"
    assert head.split()[:3] == ["REPLICA", "ROLE", "ANSWERED"]
    assert [row.split()[:2] for row in rows] == [["box", "leader"], ["cox", "follower"], ["dox", "away"]]
    assert rows[2].endswith("nobody answers there")
    manager.replicas = tuple(msgspec.structs.replace(each, role="away") for each in manager.replicas)
    assert (await cli("leader")).out.splitlines()[0].endswith("since 2026-11-23 11:21:54Z; it does not answer")
    manager.leads, manager.replicas = False, ()
    assert (await cli("leader")).out.splitlines()[0] == "No replica is active; the last epoch was 3."
    assert json.loads((await cli("leader", "-o", "json")).out)["Epoch"] == 3
    manager.note = "the store cannot be read: etcd: no quorum"
    unknown = await cli("leader")
    assert (unknown.code, unknown.out.splitlines()[0]) == (2, f"Leader unknown: {manager.note}")
    assert "the local member of etcd leads" in unknown.out


async def test_resign_is_sent_with_who_and_why(cli: CommandLine, manager: CannedManager) -> None:
    assert (await cli("leader", "resign", "-m", "x")).out.startswith("Resigned")
    [(method, parameters)] = manager.orders
    assert (method, parameters["why"]) == ("resign", "x")
    assert parameters["who"]


async def test_forget_is_sent_with_the_replica_and_why(cli: CommandLine, manager: CannedManager) -> None:
    assert (await cli("leader", "forget", "node3", "-m", "lost")).out.startswith("Removed node3")
    [(method, parameters)] = manager.orders
    assert (method, parameters["replica"], parameters["why"]) == ("forget", "node3", "lost")


async def test_a_follower_reports_why_it_is_not_active(cli: CommandLine, manager: CannedManager) -> None:
    manager.leads, manager.groups, manager.note = False, [], "etcd has no leader"
    done = await cli("status")
    assert done.code == 2
    assert "does not lead" in done.out
    assert "not active: etcd has no leader" in done.out
    assert "No groups are declared" not in done.out
