"""What every training method says about itself, without torch: the base of all their contracts."""

from __future__ import annotations

from typing import ClassVar

from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.models import Scores
from auditcore.contracts.pass_counts import GRADIENT, Passes


class TrainingMethodContract(Contract):
    """Base of all training methods.

    Attributes:
        paper: Where the method is defined.
        scores: Models that it can train: one class per image (`softmax`), or several (`sigmoid`).
        mixes_images: Whether an image of a batch may hold parts of other images.
        mixes_labels: Whether an image may get a label that is not its own.
    """

    paper: ClassVar[str]
    scores: ClassVar[frozenset[Scores]] = frozenset({"softmax", "sigmoid"})
    mixes_images: ClassVar[bool] = False
    mixes_labels: ClassVar[bool] = False
    kind: str

    @property
    def explainers(self) -> tuple[Explainer, ...]:
        """The explainers that it needs while it trains."""
        return ()

    def passes(self, shape: InputShape) -> Passes:  # noqa: ARG002 - some methods make a pass for each part of an image
        """Most passes that one image of a batch costs in one epoch; its step back counts as `backward`.

        Args:
            shape: Channels, height and width of the model's input.
        """
        return GRADIENT
