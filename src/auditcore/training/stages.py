"""All stages of an experiment one after the other, in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from auditcore.contracts.experiments.stage import Stage


def run_stages(
    stages: Sequence[Stage],
    run: Callable[[Stage, Callable[[float], None]], None],
    progress: Callable[[float, str], None],
) -> None:
    """Do all stages and tell their progress as that of the whole.

    Args:
        stages: In the order of their waves.
        run: Does one stage. It tells the share of the stage that is done, in [0,1]; nothing if there is nothing to do.
        progress: Told the share of the whole that is done, in [0,1], by the weights of the stages, and the title of
            the stage.
    """
    whole = math.fsum(stage.weight for stage in stages)
    done = 0.0
    for stage in stages:

        def told(share: float, stage: Stage = stage, done: float = done) -> None:
            progress(min(1.0, (done + share * stage.weight) / whole), stage.title)

        run(stage, told)
        done += stage.weight
    progress(1.0, "done")
