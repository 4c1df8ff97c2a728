"""One stage of an experiment: the piece of work that one worker does, and that begins again if it is lost."""

from __future__ import annotations

from typing import Annotated, Final, final

from pydantic import Field, StringConstraints

from auditcore.contracts.contract import Contract

FileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*$", max_length=200)]
"""Name of a kept file: parts of lower-case letters, digits, `_`, `.` and `-`, divided by `/`."""

REPORT: Final = "report.json"
"""The kept file with the report of the experiment; the last stage makes it."""

WEIGHTS: Final = "model.safetensors"
"""The kept file with the weights that an experiment is for, if it is for a model: those of a remedy."""


@final
class Stage(Contract):
    """Work that depends only on the request and on what earlier waves have kept.

    Attributes:
        name: Its name, unique in the experiment.
        wave: Stages of a wave may run at the same time; a wave begins when all stages of the wave before are done.
        weight: Work relative to the other stages, for the progress bar and the price; above 0.
        title: What is being done, for people: `training mixup, seed 2`.
    """

    name: FileName
    wave: Annotated[int, Field(ge=0)]
    weight: Annotated[float, Field(gt=0)]
    title: str
