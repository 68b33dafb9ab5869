"""Adapts Python's collector of reference cycles to a process that runs for long.

Everything of ours but a cycle is freed at once, without it. It examines objects again and again in the hope of cycles:
by default after every 700 new ones, of which one listing of a large group has many times more.
"""

import gc

NEW_OBJECTS = 10_000  # between two collections


def adapt() -> None:
    """Collect less often, and never examine what exists now, after the start: modules, classes and functions."""
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
