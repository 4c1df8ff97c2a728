"""The inter-model deletion loss: learning that what a map calls irrelevant can be deleted."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, Passes
from auditcore.contracts.training.methods.cutmix import CutMix
from auditcore.contracts.training.methods.explanation_driven import ExplanationDriven
from auditcore.contracts.training.methods.mixup import Mixup
from auditcore.contracts.training.methods.plain import Plain
from auditcore.counts.cells import Grid, grid_of

CombinedMix = Annotated[
    Plain | Mixup | CutMix,
    Field(discriminator="kind"),
]
"""The methods whose loss the deletion loss may be added to."""


@final
class DeletionLoss(ExplanationDriven):
    """Learn the labels and, at the same time, a higher score in the check `deletion`.

    The score is inter-model deletion: cells of the image become the mean color one after another, the least relevant
    first (LeRF) or in random order (RaO), and the area under the probability of the target in the second order is
    subtracted from the area in the first. A faithful map names cells that the model does not need, so LeRF lasts
    longer. The score is to rise and a loss is to fall, so what is added to the loss is the score with its sign turned:

        loss = cross-entropy + weight * mean over steps of (p_RaO - p_LeRF)

    Maps, and with them the order of the cells, come from the weights of this step and count as fixed; the gradient
    flows only through the probabilities of the deleted images. These images pass in evaluation mode, as in the check:
    batch normalization neither uses nor remembers them. The target is the true class; one of them, drawn anew in each
    step, where an image has several. Images whose map is constant have no order, and count only in the cross-entropy.

    With `mix: mixup` or `cutmix` it is the paper's "faithful Mixup" or "faithful CutMix": the cross-entropy is that of
    mixed images, and the deletions are of the images as they are, for which the score is defined. The paper fine-tunes
    trained models for ten epochs with Grad-CAM; it does not name the weight or the number of steps.
    """

    paper: ClassVar[str] = "Won et al. 2025, section 5.1, equation 12"
    # with `mix`, an image may hold parts of others and get their labels
    mixes_images: ClassVar[bool] = True
    mixes_labels: ClassVar[bool] = True
    kind: Literal["inter_model_deletion_loss"] = "inter_model_deletion_loss"
    mix: CombinedMix = Field(default=Plain(), description="What the cross-entropy is computed of.")
    weight: float = Field(default=1.0, gt=0, le=1000, description="Of the deletions, against the cross-entropy.")
    grid: int | None = Field(
        default=None,
        ge=2,
        le=64,
        description="Cells along the shorter side, as in the check: 14 if it has at least 128 pixels, else 8, if null.",
    )
    steps: int | None = Field(
        default=8,
        ge=1,
        le=4096,
        description="How many numbers of deleted cells are drawn in each step of training, without repetition; every "
        "number if null, or if there are no more. Each costs two passes per image. On average over the draws, the "
        "loss is the same.",
    )

    @property
    def explainers(self) -> tuple[Explainer, ...]:
        """The one that orders the cells, and those of the mix."""
        return (self.explainer, *self.mix.explainers)

    def cells_of(self, height: int, width: int) -> Grid:
        """Rows and columns of cells of an image of this height and width, in pixels."""
        return grid_of(self.grid, height, width)

    def steps_of(self, grid: Grid) -> int:
        """How many numbers of deleted cells are passed; where none or all are deleted, both orders are alike."""
        inner = grid.cells - 1
        return inner if self.steps is None else min(self.steps, inner)

    def passes(self, shape: InputShape) -> Passes:
        """Those of the mix, a map, and two deleted images to learn from for each step."""
        steps = self.steps_of(self.cells_of(shape.height, shape.width))
        return self.mix.passes(shape).plus(self.passes_of_map(shape)).plus(GRADIENT.times(2 * steps))
