"""The counter of changes that a view and everything in it share."""

import msgspec


class Revision(msgspec.Struct):
    """Grows whenever anything that a plan depends on has changed: a plan made at an earlier value is outdated."""

    value: int = 0

    def bump(self) -> None:
        """Something has changed."""
        self.value += 1
