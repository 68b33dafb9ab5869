"""The plugins of this package satisfy every rule, and the checks leave no instance behind."""

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
from tests.integration.conformance.good import Controller, ReadableTree, Topics, Tree
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


async def test_the_kit_waits_for_a_lagging_listing(path: Path) -> None:
    lagging = Simulator(Faults(lag=Spread(low=0.2), termination_lag=Spread(low=0.2)))
    assert failed(await checked(path, lagging, settle_s=20.0)) == set()


async def test_existing_instances_are_left_unchanged(path: Path) -> None:
    simulator = Simulator()
    other = simulator.adopt(tags={"infrakit.check": "of another run"})
    assert failed(await checked(path, simulator)) == set()
    assert [machine.id for machine in simulator.live()] == [other]


async def test_the_file_provider_passes(path: Path, tmp_path: Path) -> None:
    found = await checked(path, File(tmp_path / "files"), name="file/typed")
    assert failed(found) | skipped(found) == set()
    assert {o.object for o in found} >= {"typed"}
    assert not [p for p in (tmp_path / "files").iterdir() if p.name.startswith("instance-")]


async def test_the_local_provider_passes(path: Path, tmp_path: Path) -> None:
    local = Local(tmp_path / "local")
    try:
        found = await checked(path, local, settle_s=10.0)
        assert failed(found) == set()
        assert skipped(found) == {"instance/attachments"}
        assert capabilities(found) == OUR_SERVER | INSTANCE | {
            "watches",
            "logs",
            "tails",
            "volumes",
            "keeps",
            "identified",
        }
        assert await local.describe_instances(tags={}) == []
    finally:
        await local.close()


async def test_the_vanilla_flavor_passes(path: Path) -> None:
    found = await checked(path, Vanilla(), properties={"Init": "x", "Tags": {"a": "b"}})
    assert failed(found) == set()
    assert capabilities(found) == OUR_SERVER | {"judgesmany", "quorum", "attaches"}


@pytest.mark.parametrize(
    "plugin", [ReadableTree(), Tree(), Topics(), Controller()], ids=lambda each: type(each).__name__
)
async def test_plugins_that_satisfy_every_rule_pass(path: Path, plugin: object) -> None:
    found = await checked(path, plugin, writes=True)
    assert failed(found) | skipped(found) == set()
    assert len(found) > len(conformance.envelope.SUITE.checks) + len(conformance.envelope.HTTP.checks)


async def test_vars_pass(path: Path) -> None:
    found = await checked(path, Vars(MemoryStore(), SystemClock()), writes=True)
    assert failed(found) | skipped(found) == set()
    assert {o.name for o in found} >= {"updatable/commit", "updatable/wrong-cas"}


async def test_metadata_plugins_pass(path: Path) -> None:
    for plugin in (Host(), ManagerFacts(CannedManager()), Export()):
        found = await checked(path, plugin)
        assert failed(found) | skipped(found) == set()
        assert {o.name for o in found} >= {"metadata/keys", "metadata/values", "metadata/absent"}


async def test_checks_of_writes_are_skipped_for_a_read_only_tree(path: Path) -> None:
    class ReadOnly(Tree):
        async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
            raise errors.Refused(f"readonly:{changes[0].path}")

    found = await checked(path, ReadOnly(), writes=True)
    assert failed(found) == set()
    assert skipped(found) == {"updatable/changes", "updatable/wrong-cas", "updatable/commit"}


async def test_nothing_is_written_without_permission(path: Path) -> None:
    tree = Tree()
    found = await checked(path, tree)
    assert skipped(found) == {"updatable/commit"}
    assert tree.values == Tree().values
    controller = Controller()
    found = await checked(path, controller)
    assert skipped(found) == {"group/unknown-write", "group/same-again"}


async def test_checks_of_groups_are_skipped_without_groups(path: Path) -> None:
    controller = Controller()
    controller.groups.clear()
    found = await checked(path, controller, writes=True)
    assert failed(found) == set()
    assert skipped(found) == {"group/describe", "group/size", "group/pretend", "group/same-again"}


async def test_every_object_of_a_socket_is_checked(path: Path) -> None:
    disks, networks = Simulator(), Simulator()
    async with Server(path, {"disk": disks, "net": networks, "facts": ReadableTree()}):
        found = await outcomes(path)
        assert failed(found) == set()
        objects = {(o.name.partition("/")[0], o.object) for o in found if o.object}
        assert objects == {("instance", "disk"), ("instance", "net")}
        assert {o.name.partition("/")[0] for o in found} >= {"metadata"}
        assert {o.object for o in await outcomes(path, name="p/net") if o.name.startswith("instance/")} == {"net"}
        with pytest.raises(errors.NotFound, match=r"p has no 'x'; its objects: disk, facts, net"):
            await outcomes(path, name="p/x")


async def test_only_the_requested_kinds_are_checked(path: Path) -> None:
    async with Server(path, {".": (Simulator(), Vanilla())}):
        found = await outcomes(path, kinds=["flavor"])
        assert {o.name.partition("/")[0] for o in found} == {"http", "envelope", "flavor", "extension"}
        with pytest.raises(errors.Refused, match="does not announce Metadata"):
            await outcomes(path, kinds=["metadata", "flavor"])


async def test_a_server_without_objects_fails_the_handshake_checks(path: Path) -> None:
    async with Server(path, {}):
        found = await outcomes(path)
    assert failed(found) == {"envelope/handshake", "envelope/versions"}


async def test_an_unreachable_plugin_raises_an_error_instead_of_failed_checks(path: Path) -> None:
    with pytest.raises(errors.Unreachable):
        await outcomes(path)


def test_the_command_supports_every_kind() -> None:
    assert list(KINDS) == [kind.lower() for kind in conformance.SUITES]


def test_the_names_of_checks_are_unique() -> None:
    suites = (conformance.envelope.HTTP, conformance.envelope.SUITE, *conformance.SUITES.values())
    names = [check.name for suite in suites for check in suite.checks]
    assert len(names) == len(set(names))
