"""All faults of a simulated provider, adjustable while it runs: rates are 0 to 1, times are seconds."""

import random
from typing import Annotated

import msgspec

from infrakit.spi.group import Strict

Rate = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0)]


class Spread(Strict, frozen=True, kw_only=True):
    """A distribution of times: uniform from `low` to `high`, with an exponential tail of `mean` on top."""

    low: Seconds = 0.0
    high: Seconds = 0.0
    mean: Seconds = 0.0

    def draw(self, rng: random.Random) -> float:
        """Draw one time. A constant distribution consumes no randomness."""
        time = self.low if self.high <= self.low else rng.uniform(self.low, self.high)
        return time + (rng.expovariate(1.0 / self.mean) if self.mean else 0.0)


NOTHING = Spread()


class Faults(Strict, frozen=True, kw_only=True):
    """The faults of a provider. By default there are none."""

    # Calls
    describe: Spread = NOTHING  # how long each call takes
    provision: Spread = NOTHING
    destroy: Spread = NOTHING
    label: Spread = NOTHING
    slow_rate: Rate = 0.0  # of calls that take `slow` longer
    slow: Seconds = 20.0
    unreachable_rate: Rate = 0.0  # of calls that fail without effect
    refuse_rate: Rate = 0.0  # of creations that are refused, without effect
    fail_rate: Rate = 0.0  # of calls that fail with an error of the provider, half of them after taking effect
    lost_rate: Rate = 0.0  # of changes that take effect, and whose reply is lost
    hang_rate: Rate = 0.0  # of changes that take effect and never return
    down: bool = False  # every call is unreachable
    per_second: Seconds = 0.0  # throttling: calls per second, 0 for no limit
    burst: Annotated[int, msgspec.Meta(ge=1)] = 10
    capacity: Annotated[int, msgspec.Meta(ge=0)] | None = None  # maximum number of running instances

    # Listings
    lag: Spread = NOTHING  # time until a new instance is listed
    termination_lag: Spread = NOTHING  # time until a terminated instance is no longer listed
    lag_max: Seconds | None = None  # the promised listing lag; null: the maximum of the spreads
    partial_rate: Rate = 0.0  # of listings that are incomplete and therefore fail
    silent_partial_rate: Rate = 0.0  # of listings that omit `silent_part` of the instances without an error
    silent_part: Rate = 0.3
    empty_rate: Rate = 0.0  # of listings that are empty without an error
    blind: bool = False  # every listing is empty

    # Instances
    boot: Spread = NOTHING  # time until a new instance is healthy
    never_healthy_rate: Rate = 0.0
    lifetime: Seconds = 0.0  # mean of an exponential lifetime, 0 for no limit
    unhealthy_after: Seconds = 0.0  # mean time until it becomes unhealthy, 0 for never

    # Guarantees
    tokens: bool = True  # tokens are honoured: a repeated creation returns the same instance
    exclusive: bool = True  # a second instance with the same logical ID or attachment is refused

    @property
    def listing_lag_s(self) -> float:
        """The promised listing lag."""
        if self.lag_max is not None:
            return self.lag_max
        spreads = (self.lag, self.termination_lag)
        return max(max(s.low, s.high) + 5.0 * s.mean for s in spreads)
