"""RecursiveMix."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.training.methods.method import TrainingMethodContract


@final
class RecursiveMix(TrainingMethodContract):
    """Paste the mixed images of the last step, made smaller, into those of this step; labels follow the area.

    A second loss asks that the model still says of the pasted part what it said of the whole image a step before: the
    Kullback-Leibler divergence from the old prediction to one that is read from this part of the feature map. It is
    weighted with `loss_weight` and the pasted share. The feature map is the output of the model's last feature layer,
    as Grad-CAM uses; a model without one cannot be trained with this method. The prediction is read by a linear layer
    of the method itself, as in the authors' code, and is no part of the trained model.

    Three things differ from the authors' code. Its box for the feature map has rows and columns exchanged; ours does
    not. It forgets the last step at the beginning of every epoch; ours goes on, as the paper's words "the previous
    iteration" say. It needs batches of one size; here, images that have no counterpart in a smaller batch before stay
    as they are.

    A checkpoint holds the images of the last step. On a GPU the gradient of the feature map's part is summed in any
    order, so weights may differ by rounding.

    Attributes:
        alpha: The pasted share is drawn from U(0, alpha), once per batch, before the box is clipped.
        loss_weight: Weight of the second loss; 0 leaves it out. Won et al. and the authors' instructions have 0.1, the
            default of the authors' program is 0.5.
        resize: How images are made smaller.
    """

    paper: ClassVar[str] = "Yang et al. 2022; Won et al. 2025, section 3.2"
    mixes_images: ClassVar[bool] = True
    mixes_labels: ClassVar[bool] = True
    kind: Literal["recursive_mix"] = "recursive_mix"
    alpha: float = Field(default=0.5, gt=0, le=1)
    loss_weight: float = Field(default=0.1, ge=0, le=100)
    resize: Literal["nearest", "bilinear"] = "nearest"
