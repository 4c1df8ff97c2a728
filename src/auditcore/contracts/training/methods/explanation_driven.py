"""What methods that train on the model's own explanations have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from auditcore.contracts.checks.check import Reduction
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.explainers.cam import GradCam
from auditcore.contracts.explainers.pass_sharing import colors_read, map_passes
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.contracts.ranking_orders import RankingOrder, orders_of
from auditcore.contracts.training.methods.method import TrainingMethodContract


class ExplanationDriven(TrainingMethodContract):
    """Base of the methods that need a map of each image in each step, made from the weights of this step.

    Attributes:
        explainer: What makes the maps; any that computes them from the model and needs no look at all images first.
    """

    explainer: Explainer = GradCam()
    rank_by: Literal["signed", "magnitude", "auto"] = Field(
        default="auto",
        description="Whether pixels count by their signed relevance or by its magnitude, as in checks: auto takes the "
        "magnitude of maps made pixel by pixel from gradients, and the sign of maps of regions such as Grad-CAM's.",
    )
    reduce: Reduction = Field(
        default="sum", description="How channels are joined where relevance is signed; the magnitude needs no choice."
    )

    @model_validator(mode="after")
    def _reduce_has_a_use(self) -> ExplanationDriven:
        if self.order == "magnitude" and self.reduce != "sum":
            msg = (
                f"reduce is {self.reduce!r}, but pixels count by the magnitude of {self.explainer.label!r}, which is "
                "always the largest over channels; leave reduce out, or set rank_by to 'signed'"
            )
            raise ValueError(msg)
        return self

    @property
    def order(self) -> RankingOrder:
        """How relevance is read from a map."""
        (order,) = orders_of(self.rank_by, self.explainer)
        return order

    @property
    def explainers(self) -> tuple[Explainer, ...]:
        """The one that makes the maps."""
        return (self.explainer,)

    def passes_of_map(self, shape: InputShape) -> Passes:
        """Most passes of one map; nothing that it reads is known before.

        Args:
            shape: Channels, height and width of the model's input.
        """
        explained = (self.explainer,)
        # an image of one color passes once for a whole batch, which may be a single image
        return map_passes(explained, shape=shape).plus(LOGITS.times(len(colors_read(explained, original=False))))
