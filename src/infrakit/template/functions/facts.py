"""The metadata tree, as a snapshot."""

from infrakit.spi.errors import NotFound
from infrakit.spi.metadata import Facts


def looked_up(facts: Facts, path: str) -> object:
    """The value at `path`; None if there is none."""
    try:
        return facts.get(path)
    except NotFound:
        return None
