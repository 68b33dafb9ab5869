"""A cached tree: built once for concurrent readers, again after its time, and never from a failure."""

import asyncio
from typing import Any

import pytest

from infrakit.spi import errors
from infrakit.spi.metadata import Metadata
from infrakit.spi.tree import CachedTree


class Source:
    """Counts how often the tree is built, and fails on demand."""

    def __init__(self) -> None:
        self.built = 0
        self.failure: errors.InfraKitError | None = None

    async def build(self) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        if self.failure:
            raise self.failure
        self.built += 1
        return {"built": self.built, "nodes": {"a": 1, "b": 2}}


async def test_concurrent_readers_share_one_build_and_later_ones_the_cache() -> None:
    source = Source()
    tree: Metadata = CachedTree(source.build, max_age_s=60.0)
    answers = await asyncio.gather(tree.get(path="built"), tree.get(path="built"), tree.keys(path="nodes"))
    assert [bytes(answers[0]), bytes(answers[1]), answers[2]] == [b"1", b"1", ["a", "b"]]
    assert bytes(await tree.get(path="built")) == b"1"


async def test_an_expired_tree_is_built_again() -> None:
    source = Source()
    tree = CachedTree(source.build, max_age_s=0.0)
    assert [bytes(await tree.get(path="built")) for _ in range(3)] == [b"1", b"2", b"3"]


async def test_a_failure_is_raised_and_not_cached() -> None:
    source = Source()
    tree = CachedTree(source.build, max_age_s=60.0)
    source.failure = errors.Unreachable("no leader")
    with pytest.raises(errors.Unreachable):
        await tree.keys(path="")
    source.failure = None
    assert bytes(await tree.get(path="built")) == b"1"
