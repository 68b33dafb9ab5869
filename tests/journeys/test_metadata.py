"""Facts and values of a running cluster: of a single daemon, of several replicas, of plugins that stop and restart."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.operator import Operator, cattle, pets
from tests.journeys.replicas import Replicas

pytestmark = pytest.mark.slow

PLUGIN = """\
from collections.abc import Sequence
import asyncio, signal, sys
from pathlib import Path
import msgspec
from infrakit.rpc.server import Server
from infrakit.spi import paths

class Cloud:
    async def keys(self, *, path: str) -> Sequence[str] | None:
        return paths.keys(paths.find({"region": "north"}, paths.split(path)))

    async def get(self, *, path: str) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(paths.find({"region": "north"}, paths.split(path))))

async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Server(Path(sys.argv[1]), {".": Cloud()}):
        await stop.wait()

asyncio.run(main())
"""


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    replicas = Replicas()
    try:
        yield replicas
    finally:
        replicas.close()


def test_values_are_stored_and_facts_are_live(operator: Operator) -> None:
    secret = "SWMTKN-1-of-the-cluster"
    worker = cattle("web", 2, instance={"Environment": {"JOIN_TOKEN": secret}}, init="exec sleep 1000")
    operator.up(worker, pets("db", "127.0.0.21 127.0.0.22"))
    operator.converged()

    operator("metadata", "set", "vars/cluster/name", "blue", "vars/cluster/size", "3", "-m", "it has a name")
    assert operator("metadata", "cat", "vars/cluster/name") == "blue\n"
    assert "did you mean vars/cluster/name?" in operator("metadata", "cat", "vars/cluster/nane", exits=1)
    assert "read-only" in operator("metadata", "set", "host/name", "x", exits=2)

    members = operator.ask("metadata", "cat", "manager/groups/db/members")
    assert {name: m["address"] for name, m in members.items()} == {i: i for i in ("127.0.0.21", "127.0.0.22")}
    assert {m["health"] for m in members.values()} == {"healthy"}
    before = members["127.0.0.21"]["id"]
    operator.kill(before)
    operator.until(
        lambda: operator.ask("metadata", "cat", "manager/groups/db/members/127.0.0.21").get("id") not in (None, before),
        "the facts show the replacement",
    )
    operator.converged()
    whole = operator("metadata", "tree", "-o", "json")
    assert json.loads(whole)["host"]["cpu"]["count"] > 0
    assert secret not in whole

    # a killed daemon has all values again after its restart
    operator.end_daemon(signal.SIGKILL)
    operator.up(worker)
    assert operator.ask("metadata", "cat", "vars/cluster") == {"name": "blue", "size": 3}
    operator("metadata", "rm", "vars/cluster/size", "-m", "unused")
    assert [each["Version"] for each in operator.ask("metadata", "history")] == [2, 1]
    operator("metadata", "restore", "1", "-m", "it was used")
    assert operator("metadata", "cat", "vars/cluster/size") == "3\n"


def test_a_metadata_plugin_is_listed_lost_and_available_again(operator: Operator) -> None:
    operator.up(cattle("web", 1))
    (operator.home / "cloud.py").write_text(PLUGIN)
    socket = operator.home / "home" / "plugins" / "cloud"

    def plugins() -> dict[str, str]:
        return {each["Name"]: each["State"] for each in operator.ask("metadata", "ls")}

    assert "cloud" not in plugins()
    first = operator.run_program_in_background(sys.executable, "cloud.py", str(socket))
    operator.until(lambda: plugins().get("cloud") == "here", "the plugin is listed")
    assert operator("metadata", "cat", "cloud/region") == "north\n"
    first.kill()
    first.wait(60)
    operator.until(lambda: plugins()["cloud"] == "away", "the plugin is reported as away")  # a listing may be cached
    assert "it is unavailable" in operator("metadata", "cat", "cloud/region", exits=2)
    assert operator("metadata", "cat", "host/cpu/count").strip().isdigit()
    operator.run_program_in_background(sys.executable, "cloud.py", str(socket))
    operator.until(lambda: plugins().get("cloud") == "here", "the plugin is available again")
    assert operator("metadata", "cat", "cloud/region") == "north\n"


def test_an_export_template_publishes_facts_derived_from_other_facts(operator: Operator) -> None:
    template = operator.home / "facts.tpl"
    template.write_text("{{ export('greeting', 'hello ' ~ metadata('vars/name', 'nobody')) }}")
    operator.environment |= {"INFRAKIT_EXPORT_TEMPLATE": str(template), "INFRAKIT_EXPORT_INTERVAL": "100ms"}
    operator.up(cattle("web", 1))
    assert operator("metadata", "cat", "export/greeting") == "hello nobody\n"
    operator("metadata", "set", "vars/name", "ann")
    operator.until(lambda: operator("metadata", "cat", "export/greeting") == "hello ann\n", "it is rendered again")
    template.write_text("{{ export('greeting', nobody ~ '') }}")
    operator.until(
        lambda: "nobody" in str([b["Note"] for b in operator.ask("metadata", "ls")]),
        "the error of the template is reported",
    )
    assert operator("metadata", "cat", "vars/name") == "ann\n"


def test_a_value_set_at_a_follower_is_read_at_the_leader(replicas: Replicas) -> None:
    replicas.start("a", "b")
    a, b = (replicas.operators[name] for name in "ab")
    # no leader is needed: the store suffices
    assert a("metadata", "set", "vars/early", "true").startswith("Set vars/early")
    assert {each["Name"] for each in a.ask("metadata", "ls", "manager")} == {"leader", "replica", "replicas"}
    replicas.lead("a")
    a.commit(cattle("web", 2))

    b("metadata", "set", "vars/cluster/name", "blue", "-m", "at a follower")
    a.until(
        lambda: a.ask("metadata", "cat", "vars") == {"early": True, "cluster": {"name": "blue"}}, "a reads the value"
    )
    assert a.ask("metadata", "history")[0]["Why"] == "at a follower"
    a("metadata", "set", "vars/cluster/name", "red", "--expect", "2")
    conflict = b("metadata", "set", "vars/cluster/name", "green", "--expect", "2", exits=2)
    assert "changed since: cluster/name" in conflict

    # a follower reports the same facts as the leader
    b.until(lambda: b.ask("metadata", "cat", "manager/leader/name") == "a", "b reports the leader")
    b.until(lambda: b.ask("metadata", "cat", "manager/groups/web/live") == 2, "b reports the live members")
    assert b.ask("metadata", "cat", "manager/replica") == "b"
    assert {n: r["role"] for n, r in b.ask("metadata", "cat", "manager/replicas").items()} == {
        "a": "leader", "b": "follower",
    }  # fmt: skip
    assert Path(a.ask("metadata", "cat", "manager/leader/address")).name == "group"
    replicas.lead("b")
    a.until(lambda: a.ask("metadata", "cat", "manager/leader/name") == "b", "a reports the new leader")
    assert b("metadata", "cat", "vars/cluster/name") == "red\n"
