"""How long something waits before it is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import final

LONGEST_WAIT_S = 300.0
"""No wait is longer. A time to wait for that is further away was written before the clock was set back."""


@final
@dataclass(frozen=True)
class Backoff:
    """Waits that double from one try to the next, each shortened by up to half at random.

    The random part keeps shards that failed together from coming back together.

    Attributes:
        first_s: Longest first wait.
        longest_s: No wait is longer than this.
    """

    first_s: float
    longest_s: float

    def wait_s(self, times: int) -> float:
        """Seconds to wait.

        Args:
            times: How often it has been tried in vain, from 1.
        """
        # 2 ** 60 is longer than any limit, and still a number
        full = min(self.longest_s, LONGEST_WAIT_S, self.first_s * 2.0 ** min(times - 1, 60))
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads shards, keeps no secret


AT_ONCE = Backoff(0.0, 0.0)
"""No wait."""
