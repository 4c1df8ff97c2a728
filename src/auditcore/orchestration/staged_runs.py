"""Experiments stage by stage: what does a stage, and all stages one after the other in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from auditcore.contracts.experiments.stage import Stage


@runtime_checkable
class StagedRun(Protocol):
    """An experiment whose images are at hand. Everything that another stage needs of a stage is in the kept files.

    Models and images that several stages use may stay in memory; another process makes them again.
    """

    def run(self, stage: Stage, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Do a stage, or go on with one that was interrupted. The last one keeps `REPORT`.

        Args:
            stage: One of `stages_of`; all of earlier waves are done.
            progress: Called with the share of the stage that is done, in [0,1]; may raise AuditCancelled.
            enough: Asked now and then; once it says so, what is done is kept and WorkInterrupted raised.

        Raises:
            InputError: The experiment cannot be carried out.
            WorkInterrupted: It was enough for now; the same call goes on.
        """


def run_stages(run: StagedRun, stages: Sequence[Stage], progress: Callable[[float, str], None]) -> None:
    """Do all stages and tell their progress as that of the whole.

    Args:
        run: The experiment.
        stages: In the order of their waves.
        progress: Told the share of the whole that is done, in [0,1], by the weights of the stages, and the title of
            the stage; may raise AuditCancelled.
    """
    whole = math.fsum(stage.weight for stage in stages)
    done = 0.0
    for stage in stages:

        def told(share: float, stage: Stage = stage, done: float = done) -> None:
            progress(min(1.0, (done + share * stage.weight) / whole), stage.title)

        run.run(stage, progress=told, enough=lambda: False)
        done += stage.weight
    progress(1.0, "done")
