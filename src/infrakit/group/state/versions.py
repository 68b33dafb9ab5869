"""What is known of the versions of a group: the progress of a rolling update, and which slots a version cannot fill."""

import msgspec

from infrakit.spi.values import Slot


class Versions(msgspec.Struct, kw_only=True):
    """The versions of one group as observed. Attributes are read freely; they change through the methods only."""

    rolling_to: str = ""  # the version whose progress is tracked; empty: none
    progress: int = 0  # the highest number of new members that were healthy, plus those that had baked
    progress_at: float = 0.0  # loop time at which that last increased, or tracking began
    unprepared: set[tuple[Slot, str]] = msgspec.field(default_factory=set)  # slots that a version cannot fill

    def advance(self, version: str, progress: int, now: float) -> None:
        """Record how far the rolling update to a version has come."""
        if version != self.rolling_to or progress > self.progress:
            self.rolling_to, self.progress, self.progress_at = version, progress, now

    def stop(self) -> None:
        """Stop tracking the progress: the rolling update is complete, or an operator decides about it."""
        self.rolling_to, self.progress = "", 0

    def cannot_prepare(self, slot: Slot, version: str) -> None:
        """Record that the flavor could not prepare an instance of that version for a slot."""
        self.unprepared.add((slot, version))

    def retry_prepare(self) -> None:
        """Let the flavor prepare every slot again: a declaration or command has changed."""
        self.unprepared.clear()
