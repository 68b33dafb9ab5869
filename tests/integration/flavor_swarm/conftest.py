"""A cluster without machines, for a Swarm that does not exist yet."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.flavor_swarm.machines import Cluster, cluster


@pytest.fixture
async def swarm() -> AsyncIterator[Cluster]:
    async with cluster() as created:
        yield created
