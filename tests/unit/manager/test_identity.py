"""The identity of a provider account: when it changes, nothing is created or destroyed until an operator accepts it."""

import asyncio
from pathlib import Path

import pytest

from infrakit.instances.file import File
from infrakit.instances.local.home import Home
from infrakit.instances.simulator import Simulator
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.instance import Identified
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets


class Identifying(MinimalProvider):
    """A provider that names its account."""

    def __init__(self, simulator: Simulator, name: str = "first") -> None:
        super().__init__(simulator)
        self.name = name

    async def identity(self) -> str:
        return self.name


def elsewhere(provider: Identifying, other: Simulator, name: str) -> None:
    """Let the plugin act on another account from now on, as with other credentials."""
    provider.__init__(other, name)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["second", ""])
@in_virtual_time
async def test_a_change_of_identity_freezes_acting_until_it_is_accepted(name: str) -> None:
    simulator, other = Simulator(), Simulator()
    provider = Identifying(simulator)
    async with Stage(simulator=simulator, provider=lambda _: provider) as stage:
        await stage.commit(pets("db", "a b"), cattle("web", 3))
        await stage.converged()
        before = set(simulator.machines)
        elsewhere(provider, other, name)
        await asyncio.sleep(3600.0)
        assert other.machines == {}
        assert {each.id for each in simulator.live()} == before
        failed = stage.messages(Kind.OBSERVE_FAILED)
        assert len(failed) == 2  # one for each group
        waiting = (await stage.status("db")).waiting[0].reason
        assert f"its identity is {name or 'empty'}, not first" in waiting
        assert "infrakit adopt " in waiting
        assert "--account simulator" in waiting
        store = stage.store

    async with Stage(simulator=other, provider=lambda _: provider, store=store, seed=11) as later:  # after a failover
        await later.replica.active.wait()
        await asyncio.sleep(600.0)
        assert other.machines == {}
        if not name:
            with pytest.raises(errors.Refused):
                await later.operator.adopt_account(plugin="simulator", identity=name, who="ann", why="moved")
            return
        await later.operator.adopt_account(plugin="simulator", identity=name, who="ann", why="moved")
        await later.converged()
        assert len(other.live()) == 5
        assert (await later.operator.history())[0].why == "moved"


@pytest.mark.parametrize("wanted", ["third", "first"])
@in_virtual_time
async def test_an_adoption_that_contradicts_the_account_is_refused(wanted: str) -> None:
    provider = Identifying(Simulator(), "first")
    async with Stage(simulator=Simulator(), provider=lambda _: provider) as stage:
        await stage.commit(cattle("web", 1))
        await stage.until(lambda: stage.replica.term is not None and stage.replica.term.ledger.identity("simulator"))
        version = stage.replica.declaration.version
        provider.name = "second"
        with pytest.raises(errors.Refused, match=f"is second, not {wanted}; .*infrakit adopt second --account"):
            await stage.operator.adopt_account(plugin="simulator", identity=wanted, who="ann", why="a slip")
        provider.name = "first"
        with pytest.raises(errors.Refused, match="is first, not third; first change the credentials"):
            await stage.operator.adopt_account(plugin="simulator", identity="third", who="ann", why="a slip")
        assert stage.replica.declaration.version == version


@in_virtual_time
async def test_an_adoption_without_an_account_to_compare_is_refused_or_noted() -> None:
    class Silent(Identifying):
        async def identity(self) -> str:
            raise errors.Unreachable("the Engine does not answer")

    for provider, said in ((MinimalProvider(Simulator()), ""), (Silent(Simulator()), "the Engine does not answer")):
        async with Stage(provider=lambda _, it=provider: it) as stage:  # type: ignore[misc]
            await stage.replica.active.wait()
            if not said:
                with pytest.raises(errors.Refused, match="distinguishes no accounts"):
                    await stage.operator.adopt_account(plugin="simulator", identity="x", who="ann", why="a slip")
                continue
            done = await stage.operator.adopt_account(plugin="simulator", identity="x", who="ann", why="a test")
            assert f"the identity was not checked: {said}; " in done.notes[0]


@in_virtual_time
async def test_an_adopted_account_restarts_the_controllers_and_reports_them_managed_throughout() -> None:
    provider = Identifying(Simulator())
    async with Stage(simulator=Simulator(), provider=lambda _: provider) as stage:
        await stage.commit(cattle("web", 1))
        await stage.until(lambda: stage.replica.term is not None and stage.replica.term.ledger.identity("simulator"))
        await stage.operator.adopt_account(plugin="simulator", identity="first", who="ann", why="the same")
        assert stage.messages(Kind.STOPPED) == []
        provider.name = "second"
        await stage.operator.adopt_account(plugin="simulator", identity="second", who="ann", why="moved")
        assert stage.messages(Kind.STOPPED) == [
            "the controller of web restarts: another account of simulator is adopted"
        ]


@in_virtual_time
async def test_the_account_that_returns_is_acted_on_again() -> None:
    simulator = Simulator()
    provider = Identifying(simulator)
    async with Stage(simulator=simulator, provider=lambda _: provider) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        elsewhere(provider, Simulator(), "second")
        await asyncio.sleep(60.0)
        elsewhere(provider, simulator, "first")
        stage.kill("web", "1")
        await asyncio.sleep(1.0)
        await stage.converged()
        assert len(simulator.live()) == 3


async def test_directories_have_an_identity_of_their_own(tmp_path: Path) -> None:
    first, second = File(tmp_path / "a"), File(tmp_path / "b")
    assert isinstance(first, Identified)
    assert await first.identity() == ""  # it has no directory, and does not get one by this
    assert not (tmp_path / "a").exists()
    for each in ("a", "b"):
        (tmp_path / each).mkdir()
    assert await first.identity() == await File(tmp_path / "a").identity() != await second.identity()
    assert await first.describe_instances(tags={}) == []
    home = Home(tmp_path / "home")
    assert home.identity() == Home(tmp_path / "home").identity() != Home(tmp_path / "other").identity()
