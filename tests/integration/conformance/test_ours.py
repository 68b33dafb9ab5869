"""Our plugins keep every rule; and everything that was made is gone."""

from pathlib import Path

import pytest

from infrakit import conformance
from infrakit.cli.commands.plugin.check import KINDS
from infrakit.flavors.vanilla import Vanilla
from infrakit.instances.file import File
from infrakit.instances.local import Local
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.metadata.export import Export
from infrakit.metadata.host import Host
from infrakit.metadata.manager import ManagerFacts
from infrakit.metadata.vars import Vars
from infrakit.rpc.server import Server
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from infrakit.spi.metadata import Change, Proposal
from infrakit.stores.memory import MemoryStore
from tests.integration.conformance.checking import capabilities, checked, failed, outcomes, skipped
from tests.integration.conformance.good import Controller, Leaves, Topics, Tree
from tests.unit.cli.canned import CannedManager

OUR_SERVER = {"strict-content-type", "large", "info", "large-id"}
INSTANCE = {"tokens", "any-text", "capable", "inspects"}


async def test_the_simulator_passes(path: Path) -> None:
    simulator = Simulator()
    found = await checked(path, simulator)
    assert failed(found) | skipped(found) == set()
    assert capabilities(found) == OUR_SERVER | INSTANCE | {"volumes", "keeps"}
    assert {o.name for o in found} >= {
        f"instance/{c.name.partition('/')[2]}" for c in conformance.instances.SUITE.checks
    }
    assert simulator.live() == []
    assert len(simulator.machines) == 0


async def test_a_listing_that_lags_is_waited_for(path: Path) -> None:
    lagging = Simulator(Faults(lag=Spread(low=0.2), death_lag=Spread(low=0.2)))
    assert failed(await checked(path, lagging, settle_s=20.0)) == set()


async def test_instances_that_were_there_before_are_left_alone(path: Path) -> None:
    simulator = Simulator()
    other = simulator.adopt(tags={"infrakit.check": "of another run"})
    assert failed(await checked(path, simulator)) == set()
    assert [machine.id for machine in simulator.live()] == [other]


async def test_files_pass(path: Path, tmp_path: Path) -> None:
    found = await checked(path, File(tmp_path / "files"), name="file/typed")
    assert failed(found) | skipped(found) == set()
    assert {o.object for o in found} >= {"typed"}
    assert not [p for p in (tmp_path / "files").iterdir() if p.name.startswith("instance-")]


async def test_local_passes(path: Path, tmp_path: Path) -> None:
    local = Local(tmp_path / "local")
    try:
        found = await checked(path, local, settle_s=10.0)
        assert failed(found) == set()
        assert skipped(found) == {"instance/attachments"}
        assert capabilities(found) == OUR_SERVER | INSTANCE | {"watches", "logs", "tails", "volumes", "keeps"}
        assert await local.describe_instances(tags={}) == []
    finally:
        await local.close()


async def test_vanilla_passes(path: Path) -> None:
    found = await checked(path, Vanilla(), properties={"Init": "x", "Tags": {"a": "b"}})
    assert failed(found) == set()
    assert capabilities(found) == OUR_SERVER | {"judgesmany", "quorum", "attaches"}


@pytest.mark.parametrize("plugin", [Leaves(), Tree(), Topics(), Controller()], ids=lambda each: type(each).__name__)
async def test_what_keeps_every_rule_passes(path: Path, plugin: object) -> None:
    found = await checked(path, plugin, writes=True)
    assert failed(found) | skipped(found) == set()
    assert len(found) > len(conformance.envelope.SUITE.checks) + len(conformance.envelope.HTTP.checks)


async def test_vars_pass(path: Path) -> None:
    found = await checked(path, Vars(MemoryStore(), SystemClock()), writes=True)
    assert failed(found) | skipped(found) == set()
    assert {o.name for o in found} >= {"updatable/commit", "updatable/wrong-cas"}


async def test_facts_pass(path: Path) -> None:
    for plugin in (Host(), ManagerFacts(CannedManager()), Export()):
        found = await checked(path, plugin)
        assert failed(found) | skipped(found) == set()
        assert {o.name for o in found} >= {"metadata/keys", "metadata/values", "metadata/absent"}


async def test_a_tree_may_say_that_it_is_read_only(path: Path) -> None:
    class ReadOnly(Tree):
        async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
            raise errors.Refused(f"readonly:{changes[0].path}")

    found = await checked(path, ReadOnly(), writes=True)
    assert failed(found) == set()
    assert skipped(found) == {"updatable/changes", "updatable/wrong-cas", "updatable/commit"}


async def test_nothing_is_written_unless_that_is_allowed(path: Path) -> None:
    tree = Tree()
    found = await checked(path, tree)
    assert skipped(found) == {"updatable/commit"}
    assert tree.values == Tree().values
    controller = Controller()
    found = await checked(path, controller)
    assert skipped(found) == {"group/unknown-write", "group/same-again"}


async def test_without_groups_their_rules_are_skipped(path: Path) -> None:
    controller = Controller()
    controller.groups.clear()
    found = await checked(path, controller, writes=True)
    assert failed(found) == set()
    assert skipped(found) == {"group/describe", "group/size", "group/pretend", "group/same-again"}


async def test_every_object_of_a_socket_is_checked(path: Path) -> None:
    disks, networks = Simulator(), Simulator()
    async with Server(path, {"disk": disks, "net": networks, "facts": Leaves()}):
        found = await outcomes(path)
        assert failed(found) == set()
        objects = {(o.name.partition("/")[0], o.object) for o in found if o.object}
        assert objects == {("instance", "disk"), ("instance", "net")}
        assert {o.name.partition("/")[0] for o in found} >= {"metadata"}
        assert {o.object for o in await outcomes(path, name="p/net") if o.name.startswith("instance/")} == {"net"}
        with pytest.raises(errors.NotFound, match=r"p has no 'x'; its objects: disk, facts, net"):
            await outcomes(path, name="p/x")


async def test_the_kinds_that_are_asked_for_are_checked_alone(path: Path) -> None:
    async with Server(path, {".": (Simulator(), Vanilla())}):
        found = await outcomes(path, kinds=["flavor"])
        assert {o.name.partition("/")[0] for o in found} == {"http", "envelope", "flavor", "extension"}
        with pytest.raises(errors.Refused, match="does not announce Metadata"):
            await outcomes(path, kinds=["metadata", "flavor"])


async def test_who_has_nothing_to_check_is_refused(path: Path) -> None:
    async with Server(path, {}):
        found = await outcomes(path)
    assert failed(found) == {"envelope/handshake", "envelope/versions"}


async def test_nobody_there_is_no_failed_check(path: Path) -> None:
    with pytest.raises(errors.Unreachable):
        await outcomes(path)


def test_the_command_knows_every_kind() -> None:
    assert list(KINDS) == [kind.lower() for kind in conformance.SUITES]


def test_nothing_is_asked_twice() -> None:
    suites = (conformance.envelope.HTTP, conformance.envelope.SUITE, *conformance.SUITES.values())
    names = [check.name for suite in suites for check in suite.checks]
    assert len(names) == len(set(names))
