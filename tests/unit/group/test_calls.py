"""One call of a group: what must still hold when it begins, and what is known after each way in which it can end."""

import asyncio
import random
from collections.abc import Callable

import msgspec
import pytest

from infrakit.gate.gate import CALL_DEADLINE_S, Gate
from infrakit.group.account import Account
from infrakit.group.actions import Action, Destroy, Priority, Provision
from infrakit.group.calls import Calls
from infrakit.group.calls.caller import CallingGroup
from infrakit.group.ledger import Intent
from infrakit.group.plan import DesiredState
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Leaving
from infrakit.group.state.view import GroupView
from infrakit.instances.simulator import Faults, Simulator
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.event import Event, Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec, Slot, Token
from tests.stage import in_virtual_time
from tests.worlds import NEW, member, want

SLOT, OLD_ONE = Slot("1"), InstanceID("i-1")
CREATE = Provision(slot=SLOT, sequence=1, hash=NEW, reason="missing", rule="no-instance", priority=Priority.HEAL)
DESTROY = Destroy(instance=OLD_ONE, slot=SLOT, reason="surplus", rule="surplus", drain=False)


class Provider(Simulator):
    """A provider whose calls fail with `error`, or do not return."""

    error: errors.InfraKitError | None = None
    hangs = False

    def __init__(self) -> None:
        super().__init__(Faults(), random=random.Random(1))
        self.called: list[str] = []

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        del spec
        await self._answer("provision")
        return InstanceID("i-new")

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        del instance, context
        await self._answer("destroy")

    async def _answer(self, method: str) -> None:
        self.called.append(method)
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.error is not None:
            raise self.error


class Flavor(SimulatedFlavor):
    """A flavor whose drains fail with `error`."""

    error: errors.InfraKitError | None = None

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        if self.error is not None:
            raise self.error
        await super().drain(properties=properties, instance=instance)


class Permits:
    """An authority that always permits; `during` happens while it is proven."""

    def __init__(self, during: Callable[[], object]) -> None:
        self._during = during

    async def prove(self) -> None:
        self._during()

    def check(self) -> None:
        """Permit the call."""


class Manager:
    """The callbacks of a controller; leadership moves if `moves` is set."""

    moves = False

    def __init__(self) -> None:
        self.transfers = 0

    async def transfer_leadership(self, why: str) -> bool:
        del why
        self.transfers += 1
        return self.moves


class World:
    """The calls of one group with one member, and one recorded creation in another slot."""

    def __init__(self, during: Callable[["World"], object] = lambda _world: None) -> None:
        self.want = want(1)
        self.provider, self.manager, self.events = Provider(), Manager(), list[Event]()
        self.flavor = Flavor(self.provider, random.Random(1))
        self.view = GroupView(group=GroupID("g"), pets=False, lag_s=0.0, can_inspect=True, version=NEW)
        self.view.members = {OLD_ONE: member("1")}
        self.view.intend({SLOT: Intent(token=Token("t-1"), hash=NEW, at=0.0)}, fresh=True)
        self.calls = Calls(
            CallingGroup(
                account=Account("simulator", self.provider, random=random.Random(1)),
                flavor=self.flavor,
                gate=Gate(Permits(lambda: during(self))),
                view=self.view,
                emit=self.events.append,
                want=self._want,
                live=self.view.possibly_live,
                callbacks=self.manager,  # type: ignore[arg-type]
            )
        )

    def _want(self) -> DesiredState:
        return self.want

    @property
    def creation(self) -> Creation:
        return self.view.pending[SLOT]

    def declare_another(self) -> None:
        self.want = want(2)

    def kinds(self) -> list[Kind]:
        return [event.type for event in self.events]


# -- when a call begins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [CREATE, DESTROY, msgspec.structs.replace(DESTROY, drain=True)])
@in_virtual_time
async def test_no_call_begins_after_the_declaration_has_changed_during_its_fencing_check(action: Action) -> None:
    world = World(during=World.declare_another)
    assert not await world.calls.perform(action)
    assert world.provider.called == []
    assert world.view.members[OLD_ONE].leaving is Leaving.NO
    assert world.creation.phase is Phase.RECORDED


@in_virtual_time
async def test_no_creation_begins_after_its_instance_was_listed_and_settled() -> None:
    world = World(during=lambda world: world.view.settle([SLOT]))
    assert not await world.calls.perform(CREATE)
    assert world.provider.called == []


@in_virtual_time
async def test_no_destruction_begins_of_an_instance_that_has_terminated() -> None:
    world = World(during=lambda world: world.view.members.pop(OLD_ONE, None))
    assert not await world.calls.perform(DESTROY)
    assert world.provider.called == []


@pytest.mark.parametrize(("moves", "called"), [(True, []), (False, ["destroy"])])
@in_virtual_time
async def test_our_own_node_is_destroyed_only_if_leadership_cannot_move(*, moves: bool, called: list[str]) -> None:
    world = World()
    world.view.members[OLD_ONE].is_self, world.manager.moves = True, moves
    await world.calls.perform(DESTROY)
    assert (world.manager.transfers, world.provider.called) == (1, called)


@in_virtual_time
async def test_leadership_does_not_move_after_the_declaration_has_changed() -> None:
    world = World(during=World.declare_another)
    world.view.members[OLD_ONE].is_self = True
    assert not await world.calls.perform(DESTROY)
    assert (world.manager.transfers, world.provider.called) == (0, [])


@in_virtual_time
async def test_a_drain_that_is_refused_prevents_the_destruction_and_one_that_fails_does_not() -> None:
    world, drained = World(), msgspec.structs.replace(DESTROY, drain=True)
    world.flavor.error = errors.Refused("the majority is needed")
    assert not await world.calls.perform(drained)
    assert world.provider.called == []
    assert world.view.members[OLD_ONE].leaving is Leaving.NO
    world.flavor.error = errors.PluginError("internal error")
    assert await world.calls.perform(drained)
    assert world.provider.called == ["destroy"]


# -- how a creation ends -----------------------------------------------------------------------------------------------

UNANSWERED = [
    errors.OutcomeUnknown("the connection broke"),
    errors.PluginError("internal error"),
]


@pytest.mark.parametrize("error", [*UNANSWERED, None], ids=lambda error: type(error).__name__)
@in_virtual_time
async def test_a_creation_without_an_answer_may_have_had_an_effect(error: errors.InfraKitError | None) -> None:
    world = World()
    world.provider.error, world.provider.hangs = error, error is None
    began = asyncio.get_running_loop().time()
    assert not await world.calls.perform(CREATE)
    assert (world.creation.phase, world.creation.uncertain) == (Phase.UNKNOWN, True)
    assert world.creation.ended_at == began + CALL_DEADLINE_S
    assert world.kinds() == [Kind.CREATING, Kind.CREATE_UNKNOWN]


@in_virtual_time
async def test_a_creation_that_is_cancelled_after_it_has_begun_may_have_had_an_effect() -> None:
    world = World()
    world.provider.hangs = True
    call = asyncio.ensure_future(world.calls.perform(CREATE))
    await asyncio.sleep(1.0)
    call.cancel()
    await asyncio.wait({call})
    assert (world.creation.phase, world.creation.uncertain) == (Phase.UNKNOWN, True)


@pytest.mark.parametrize(
    ("error", "phase"),
    [
        (errors.Refused("no capacity"), Phase.REFUSED),
        (errors.InvalidSpec(()), Phase.REFUSED),
        (errors.Conflict("the volume is held"), Phase.RECORDED),
        (errors.Throttled("too many", after_s=1.0), Phase.RECORDED),
        (errors.Unreachable("connection refused"), Phase.RECORDED),
    ],
    ids=lambda value: type(value).__name__,
)
@in_virtual_time
async def test_an_error_of_a_creation_that_had_no_effect_leaves_nothing_unknown(
    error: errors.InfraKitError, phase: Phase
) -> None:
    world = World()
    world.provider.error = error
    assert not await world.calls.perform(CREATE)
    assert (world.creation.phase, world.creation.uncertain) == (phase, False)


# -- how a destruction ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [*UNANSWERED, None], ids=lambda error: type(error).__name__)
@in_virtual_time
async def test_a_destruction_without_an_answer_may_have_had_an_effect(error: errors.InfraKitError | None) -> None:
    world = World()
    world.provider.error, world.provider.hangs = error, error is None
    assert not await world.calls.perform(DESTROY)
    left = world.view.members[OLD_ONE]
    assert left.leaving is Leaving.NO
    assert left.report is None, "its health is requested again"
    assert left.was_requested_to_end(asyncio.get_running_loop().time(), effect_s=CALL_DEADLINE_S)
    assert world.calls.destructions.begun == {OLD_ONE}


@pytest.mark.parametrize(
    "error",
    [errors.Refused("protected"), errors.Throttled("too many", after_s=1.0), errors.Unreachable("connection refused")],
    ids=lambda error: type(error).__name__,
)
@in_virtual_time
async def test_a_destruction_that_had_no_effect_leaves_the_member_as_it_was(error: errors.InfraKitError) -> None:
    world = World()
    world.provider.error = error
    assert not await world.calls.perform(DESTROY)
    left = world.view.members[OLD_ONE]
    assert left.report is not None
    assert not left.was_requested_to_end(asyncio.get_running_loop().time(), effect_s=CALL_DEADLINE_S)
    assert world.calls.destructions.begun == set()
