"""The checks of a provider's listing before anything is concluded from it (law 4).

A listing that contradicts itself is no complete answer: it counts as a failed observation. What the provider should
have filtered is filtered again.
"""

import collections
from collections.abc import Sequence

from infrakit.spi import errors, values
from infrakit.spi.values import Description


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
