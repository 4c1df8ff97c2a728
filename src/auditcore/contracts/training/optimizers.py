"""Optimizers, and how the learning rate changes over the epochs."""

from __future__ import annotations

import math
from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract

LearningRate = Annotated[float, Field(gt=0, le=100)]
WeightDecay = Annotated[float, Field(ge=0, le=10)]


@final
class Sgd(Contract):
    """Stochastic gradient descent, as `torch.optim.SGD`.

    Attributes:
        learning_rate: Learning rate at the start.
        momentum: Share of the previous step that is repeated.
        nesterov: Whether the gradient is taken after the momentum; needs momentum.
        weight_decay: Factor of the L2 penalty.
    """

    kind: Literal["sgd"] = "sgd"
    learning_rate: LearningRate = 0.1
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: WeightDecay = 5e-4

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            msg = "nesterov needs momentum; set `momentum` above 0, or `nesterov` to false"
            raise ValueError(msg)
        return self


@final
class Adam(Contract):
    """Adam with an L2 penalty, as `torch.optim.Adam`.

    Attributes:
        learning_rate: Learning rate at the start.
        weight_decay: Factor of the L2 penalty.
    """

    kind: Literal["adam"] = "adam"
    learning_rate: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.0


@final
class AdamW(Contract):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`.

    Attributes:
        learning_rate: Learning rate at the start.
        weight_decay: Share of a weight that a step takes away, per unit of learning rate.
    """

    kind: Literal["adamw"] = "adamw"
    learning_rate: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.01


Optimizer = Annotated[Sgd | Adam | AdamW, Field(discriminator="kind")]


@final
class ConstantRate(Contract):
    """The same learning rate from start to end."""

    kind: Literal["constant"] = "constant"

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:  # noqa: ARG002 - of all schedules
        """Factor of the learning rate in a step, in [0, 1]."""
        return 1.0


@final
class StepDecay(Contract):
    """A learning rate that is multiplied by a factor after some epochs.

    Attributes:
        after: Numbers of epochs after which it is multiplied, such as 50, 120 and 160 of 200.
        by: The factor.
    """

    kind: Literal["step_decay"] = "step_decay"
    after: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1, max_length=100)
    by: float = Field(default=0.1, gt=0, lt=1)

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:  # noqa: ARG002 - of all schedules
        """Factor of the learning rate in a step, in [0, 1]."""
        done = step // steps_per_epoch
        return float(self.by ** sum(done >= epoch for epoch in self.after))


@final
class CosineAnnealing(Contract):
    """A learning rate that falls along half a cosine, step by step, to a share of where it began.

    Attributes:
        floor: Its share at the end.
    """

    kind: Literal["cosine"] = "cosine"
    floor: float = Field(default=0.0, ge=0, lt=1)

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """Factor of the learning rate in a step, in [0, 1]."""
        share = step / (steps_per_epoch * epochs)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2


Schedule = Annotated[ConstantRate | StepDecay | CosineAnnealing, Field(discriminator="kind")]
