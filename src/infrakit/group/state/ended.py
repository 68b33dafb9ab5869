"""Instances whose termination is confirmed, because a listing that lags may show them again."""

import msgspec

from infrakit.spi import values
from infrakit.spi.values import Description, InstanceID, State, Token

KEPT_S = 600.0


class _Termination(msgspec.Struct, frozen=True):
    at: float  # loop time
    token: Token | None


class Ended(msgspec.Struct):
    """The confirmed terminations of the last `KEPT_S`."""

    _terminations: dict[InstanceID, _Termination] = msgspec.field(default_factory=dict)  # the newest last

    def add(self, instance: InstanceID, token: Token | None, at: float) -> bool:
        """Record a termination that is confirmed at loop time `at`. Returns whether it was recorded before."""
        before = self.forget(instance)
        self._terminations[instance] = _Termination(at, token)
        return before

    def forget(self, instance: InstanceID) -> bool:
        """Forget a termination. Returns whether it was recorded."""
        return self._terminations.pop(instance, None) is not None

    def expire(self, now: float) -> None:
        """Forget what is older than `KEPT_S`."""
        while self._terminations and now - next(iter(self._terminations.values())).at > KEPT_S:
            del self._terminations[next(iter(self._terminations))]

    def forget_reused(self, description: Description) -> None:
        """Forget the termination of an instance whose ID the provider has given to another one.

        The tokens of both have to be known: a tag that is missing proves nothing.
        """
        before, token = self._terminations.get(description.id), (description.tags or {}).get(values.TAG_TOKEN)
        if before is not None and before.token and token and before.token != token:
            del self._terminations[description.id]

    def is_still_leaving(self, description: Description, *, begun_at: float, lag_s: float) -> bool:
        """Whether a terminated instance is listed again because it is still being removed, or the listing lags.

        It holds its slot until it is not listed any more, and its termination counts once. Otherwise it runs again.
        """
        before = self._terminations.get(description.id)
        if before is None:
            return False
        return description.state is State.STOPPING or begun_at < before.at + lag_s
