"""Everything that can be wrong with a provider, adjustable while it runs: rates are 0 to 1, times are seconds."""

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
        """One time from it; nothing is drawn where nothing can vary."""
        time = self.low if self.high <= self.low else rng.uniform(self.low, self.high)
        return time + (rng.expovariate(1.0 / self.mean) if self.mean else 0.0)


NOTHING = Spread()


class Faults(Strict, frozen=True, kw_only=True):
    """The default is a provider without a fault."""

    # Calls
    describe: Spread = NOTHING  # how long each call takes
    provision: Spread = NOTHING
    destroy: Spread = NOTHING
    label: Spread = NOTHING
    slow_rate: Rate = 0.0  # of calls that take `slow` more
    slow: Seconds = 20.0
    unreachable_rate: Rate = 0.0  # nothing is done
    refuse_rate: Rate = 0.0  # of creations: nothing is done
    fail_rate: Rate = 0.0  # fails in its own words, with nothing done, or with all done
    lost_rate: Rate = 0.0  # done, and the reply is lost
    hang_rate: Rate = 0.0  # done, and there is never a reply
    down: bool = False  # everything is unreachable
    per_second: Seconds = 0.0  # throttling: calls a second, 0 for no limit
    burst: Annotated[int, msgspec.Meta(ge=1)] = 10
    capacity: Annotated[int, msgspec.Meta(ge=0)] | None = None  # live instances

    # Listings
    lag: Spread = NOTHING  # until a new instance is listed
    death_lag: Spread = NOTHING  # until a dead one is not listed any more
    lag_max: Seconds | None = None  # what is promised; None: the most that the spreads can give
    partial_rate: Rate = 0.0  # of listings that are incomplete, and say so by failing
    silent_partial_rate: Rate = 0.0  # of listings that leave out `silent_part` and do not say so
    silent_part: Rate = 0.3
    empty_rate: Rate = 0.0  # of listings that are empty and do not say so
    blind: bool = False  # lists nothing, ever

    # Instances
    boot: Spread = NOTHING  # until a new instance is healthy
    never_healthy_rate: Rate = 0.0
    lifetime: Seconds = 0.0  # mean of an exponential life, 0 for ever
    sick_after: Seconds = 0.0  # mean time until it becomes sick, 0 for never

    # What it is
    tokens: bool = True  # honours tokens
    exclusive: bool = True  # refuses a second bearer of a logical ID, and a second holder of an attachment

    @property
    def listing_lag_s(self) -> float:
        """The promise."""
        if self.lag_max is not None:
            return self.lag_max
        spreads = (self.lag, self.death_lag)
        return max(max(s.low, s.high) + 5.0 * s.mean for s in spreads)
