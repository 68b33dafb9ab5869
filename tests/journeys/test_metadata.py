"""Facts and values of a running cluster: of a single daemon, among replicas, of plugins that come and go."""

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


def test_values_are_kept_and_facts_are_live(operator: Operator) -> None:
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
        "the facts follow",
    )
    operator.converged()
    whole = operator("metadata", "tree", "-o", "json")
    assert json.loads(whole)["host"]["cpu"]["count"] > 0
    assert secret not in whole

    # a daemon that was killed has everything again
    operator.end_daemon(signal.SIGKILL)
    operator.up(worker)
    assert operator.ask("metadata", "cat", "vars/cluster") == {"name": "blue", "size": 3}
    operator("metadata", "rm", "vars/cluster/size", "-m", "unused")
    assert [each["Version"] for each in operator.ask("metadata", "history")] == [2, 1]
    operator("metadata", "restore", "1", "-m", "it was used")
    assert operator("metadata", "cat", "vars/cluster/size") == "3\n"


def test_a_plugin_of_facts_comes_goes_and_returns(operator: Operator) -> None:
    operator.up(cattle("web", 1))
    (operator.home / "cloud.py").write_text(PLUGIN)
    socket = operator.home / "home" / "plugins" / "cloud"

    def plugins() -> dict[str, str]:
        return {each["Name"]: each["State"] for each in operator.ask("metadata", "ls")}

    assert "cloud" not in plugins()
    first = operator.beside_program(sys.executable, "cloud.py", str(socket))
    operator.until(lambda: plugins().get("cloud") == "here", "it joins")
    assert operator("metadata", "cat", "cloud/region") == "north\n"
    first.kill()
    first.wait(60)
    operator.until(lambda: plugins()["cloud"] == "away", "it is missed")  # a listing may be a moment old
    assert "it is away" in operator("metadata", "cat", "cloud/region", exits=2)
    assert operator("metadata", "cat", "host/cpu/count").strip().isdigit()
    operator.beside_program(sys.executable, "cloud.py", str(socket))
    operator.until(lambda: plugins().get("cloud") == "here", "it is back")
    assert operator("metadata", "cat", "cloud/region") == "north\n"


def test_a_template_publishes_what_it_makes_of_other_facts(operator: Operator) -> None:
    template = operator.home / "facts.tpl"
    template.write_text("{{ export('greeting', 'hello ' ~ metadata('vars/name', 'nobody')) }}")
    operator.environment |= {"INFRAKIT_EXPORT_TEMPLATE": str(template), "INFRAKIT_EXPORT_INTERVAL": "100ms"}
    operator.up(cattle("web", 1))
    assert operator("metadata", "cat", "export/greeting") == "hello nobody\n"
    operator("metadata", "set", "vars/name", "ann")
    operator.until(lambda: operator("metadata", "cat", "export/greeting") == "hello ann\n", "it is rendered again")
    template.write_text("{{ export('greeting', nobody ~ '') }}")
    operator.until(
        lambda: "nobody" in str([b["Note"] for b in operator.ask("metadata", "ls")]), "what is wrong with it is told"
    )
    assert operator("metadata", "cat", "vars/name") == "ann\n"


def test_what_is_set_at_a_follower_is_read_at_the_leader(replicas: Replicas) -> None:
    replicas.start("a", "b")
    a, b = (replicas.operators[name] for name in "ab")
    assert a("metadata", "set", "vars/early", "true").startswith("Set vars/early")  # nobody leads: the store is enough
    assert {each["Name"] for each in a.ask("metadata", "ls", "manager")} == {"leader", "replica", "replicas"}
    replicas.lead("a")
    a.commit(cattle("web", 2))

    b("metadata", "set", "vars/cluster/name", "blue", "-m", "at a follower")
    a.until(lambda: a.ask("metadata", "cat", "vars") == {"early": True, "cluster": {"name": "blue"}}, "a reads it")
    assert a.ask("metadata", "history")[0]["Why"] == "at a follower"
    a("metadata", "set", "vars/cluster/name", "red", "--expect", "2")
    late = b("metadata", "set", "vars/cluster/name", "green", "--expect", "2", exits=2)
    assert "changed since: cluster/name" in late

    # a follower tells what the leader tells
    b.until(lambda: b.ask("metadata", "cat", "manager/leader/name") == "a", "b knows who leads")
    b.until(lambda: b.ask("metadata", "cat", "manager/groups/web/live") == 2, "and what there is")
    assert b.ask("metadata", "cat", "manager/replica") == "b"
    assert {n: r["role"] for n, r in b.ask("metadata", "cat", "manager/replicas").items()} == {
        "a": "leader", "b": "follower",
    }  # fmt: skip
    assert Path(a.ask("metadata", "cat", "manager/leader/address")).name == "group"
    replicas.lead("b")
    a.until(lambda: a.ask("metadata", "cat", "manager/leader/name") == "b", "a follows")
    assert b("metadata", "cat", "vars/cluster/name") == "red\n"
