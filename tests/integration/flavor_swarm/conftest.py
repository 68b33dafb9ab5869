"""A cluster without machines, for a Swarm that does not exist yet; if a test fails, it prints their output."""

from collections.abc import AsyncIterator, Generator

import pytest

from tests.integration.flavor_swarm.machines import Cluster, cluster

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the failure before the fixtures are torn down."""
    report = yield
    item.stash[_failed] = report.failed
    return report


@pytest.fixture
async def swarm(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    async with cluster() as created:
        yield created
        if request.node.stash.get(_failed, False):
            print(await created.report())
