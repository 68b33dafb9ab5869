"""The checks of a provider's answers before anything is concluded from them (law 4).

A listing that contradicts itself is no complete answer: it counts as a failed observation. What the provider should
have filtered is filtered again. So are the instances of other clusters that have a group of the same name.

An inspection confirms a termination only by None, or by a description of the instance itself. Every error leaves the
state unknown, also *forbidden*, and *not found*, which a proxy or a wrong address may return.
"""

import collections
from collections.abc import Collection, Sequence

from infrakit.spi import errors, values
from infrakit.spi.token import cluster_of
from infrakit.spi.values import Description, State


def check(listing: object, *, provider: str) -> None:
    """Raise `PluginError` unless it is a sequence of descriptions, each with an ID of its own."""
    if not isinstance(listing, Sequence) or not all(isinstance(each, Description) for each in listing):
        raise errors.PluginError(
            f"its listing is no sequence of descriptions, but {type(listing).__name__}", where=provider
        )
    ids = {each.id for each in listing}
    if "" in ids:
        raise errors.PluginError("its listing has an instance without an ID", where=provider)
    if len(ids) != len(listing):
        twice, _ = collections.Counter(each.id for each in listing).most_common(1)[0]
        raise errors.PluginError(f"its listing has the instance {twice} twice", where=provider)


def of_group(listing: Sequence[Description], group: str) -> Sequence[Description]:
    """Return the instances with the tag of the group: the listing itself, if it has no others."""
    if all((each.tags or {}).get(values.TAG_GROUP) == group for each in listing):
        return listing
    return [each for each in listing if (each.tags or {}).get(values.TAG_GROUP) == group]


def foreign(listing: Sequence[Description], clusters: Collection[str] | None) -> Sequence[Description]:
    """Return the live instances whose token names another cluster than these; with None, every cluster is ours."""
    if clusters is None:
        return ()
    ours = tuple(f"{each}/" for each in clusters)  # checked first: it is the quickest, and true of most instances
    others = (each for each in listing if not (each.tags or {}).get(values.TAG_TOKEN, "").startswith(ours))
    return [each for each in others if cluster_of(each.tags) and each.state is not State.TERMINATED]


def named(listing: Sequence[Description]) -> Sequence[Description]:
    """Return the live instances of any group that have a logical ID."""
    return [
        each
        for each in listing
        if (each.logical_id or values.TAG_LOGICAL_ID in (each.tags or {}))
        and values.TAG_GROUP in (each.tags or {})
        and each.state is not State.TERMINATED
    ]


def without(listing: Sequence[Description], others: Sequence[Description]) -> Sequence[Description]:
    """Return the listing without these instances: the listing itself, if there are none."""
    if not others:
        return listing
    ids = {each.id for each in others}
    return [each for each in listing if each.id not in ids]
