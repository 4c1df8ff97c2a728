"""What a measure that retrains is expected to cost, and what it has cost."""

from __future__ import annotations

from typing import final

from auditcore.contracts.contract import Contract


@final
class RetrainingCost(Contract):
    """Trainings, passes and seconds, expected or counted.

    Attributes:
        trainings: Number of trainings.
        forward_images: Images that pass forward through a model.
        backward_images: Images that pass backward.
        seconds: Seconds of computing; expected ones rest on the speed of the first steps on the machine.
        device: Where the models run.
    """

    trainings: int
    forward_images: int
    backward_images: int
    seconds: float
    device: str = "cpu"
