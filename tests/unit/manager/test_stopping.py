"""A controller has ended, with all of its calls, before its group is called unmanaged or gets another controller."""

import asyncio

from infrakit.instances.simulator import Simulator
from infrakit.spi.event import Kind
from infrakit.spi.values import GroupID, InstanceID, InstanceSpec
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time

WEB = GroupID("web")


class SlowToCancel(MinimalProvider):
    """Its creations do not return, and take five seconds to be cancelled."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.calls: list[str] = []
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        del spec
        self.calls.append("begun")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(5.0)
            self.calls.append("cancelled")
        raise AssertionError("it is cancelled")


@in_virtual_time
async def test_a_group_is_not_free_before_its_last_call_has_returned() -> None:
    async with Stage(provider=SlowToCancel) as stage:
        await stage.commit(cattle("web", 1))
        provider = stage.controller("web").account.instance
        assert isinstance(provider, SlowToCancel)
        await stage.until(lambda: provider.calls)
        await stage.operator.free(group=WEB, who="ann", why="a test")
        assert provider.calls == ["begun", "cancelled"]
        assert stage.messages(Kind.STOPPED)[-1] == "web is no longer managed"
