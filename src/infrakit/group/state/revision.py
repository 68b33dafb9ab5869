"""The change counter of a view, shared by its members and creations."""

import msgspec


class Revision(msgspec.Struct):
    """Increases whenever something that a plan depends on changes; a plan of an earlier value is outdated."""

    value: int = 0

    def bump(self) -> None:
        """Record a change."""
        self.value += 1
