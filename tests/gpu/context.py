"""What every part of a run on a GPU is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Context:
    """Where, how long and how much a part runs.

    Attributes:
        device: Where models run.
        seconds: Limit for the part. A part that has more to do than fits measures less; it is not interrupted.
        tiny: Whether this is a rehearsal: a tiny model and few images, so that a CPU is done in seconds.
        say: Prints one line at once.
        only: Words of which a subject must contain one; all are tried if there are none.
        profile: Whether throughput also says where the time goes.
        keep: Writes what a part has found until now, in case its time runs out. What it returns takes its place.
    """

    device: torch.device
    seconds: float
    tiny: bool
    say: Callable[[str], None]
    only: tuple[str, ...] = ()
    profile: bool = False
    keep: Callable[[Mapping[str, object]], None] = lambda _found: None

    def wants(self, subject: str) -> bool:
        """Whether a subject is to be tried: of parity or syncs, or a model in a precision."""
        return not self.only or any(word in subject for word in self.only)
