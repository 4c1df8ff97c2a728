"""Progress of work that consists of several stages, such as trainings and audits one after the other."""

from __future__ import annotations

from collections.abc import Callable


def in_stage(progress: Callable[[float, str], None], stage: str, *, done: int, stages: int) -> Callable[[float], None]:
    """A function that tells the progress of one stage as that of the whole.

    Args:
        progress: Told the share of the whole that is done, in [0,1], and the stage.
        stage: What is being done.
        done: Stages that are done before it.
        stages: Stages of the whole; all count the same.
    """
    return lambda share: progress((done + share) / stages, stage)
