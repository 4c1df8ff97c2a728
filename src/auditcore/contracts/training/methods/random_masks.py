"""Fine-tuning on images with random holes, so that images with deleted pixels are nothing new to the model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract
from auditcore.contracts.training.methods.method import TrainingMethodContract


@final
class RandomPixels(Contract):
    """Mask random pixels of every image, all channels together, as F-Fidelity does.

    Attributes:
        share: beta, the share of the pixels that is masked, rounded down to whole pixels. The authors' code has 0.1.
    """

    kind: Literal["pixels"] = "pixels"
    share: float = Field(default=0.1, gt=0, lt=1)
    draw: Literal["fixed", "uniform"] = Field(
        default="fixed",
        description="fixed: `share` of every image, as in the authors' code; uniform: for each image another share, "
        "between 0 and `share`.",
    )


@final
class RandomPatches(Contract):
    """Mask random patches of some of the images, as IDSDS does: one patch of 4 x 4, in every other image.

    Attributes:
        unmasked: Share of the images that stay as they are, drawn anew in each step.
    """

    kind: Literal["patches"] = "patches"
    grid: int = Field(default=4, ge=2, le=64, description="Patches along the shorter side; they are nearly square.")
    patches: int = Field(
        default=1, ge=1, description="Most patches that are masked; from 1 to so many, each number equally probable."
    )
    unmasked: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _something_remains(self) -> RandomPatches:
        if self.patches >= self.grid**2:
            msg = f"patches is {self.patches}, and a grid of {self.grid} x {self.grid} has to keep at least one; "
            msg += f"set it to at most {self.grid**2 - 1}"
            raise ValueError(msg)
        return self


RandomMaskShape = Annotated[RandomPixels | RandomPatches, Field(discriminator="kind")]
"""What is masked."""


@final
class RandomMasks(TrainingMethodContract):
    """Train on images of which random parts are masked; labels stay.

    A model that has never seen an image with holes may answer to the holes instead of what they hide, and a score of
    deletions then measures this. After a few epochs with random masks, which no explainer had a part in, deleted
    images are nothing new to the model. F-Fidelity and IDSDS are measured on such a model.

    `masks: pixels` are those of F-Fidelity (Zheng et al. 2025), where every image loses a share beta of its pixels.
    The authors' published code masks them in the first channel only; here a pixel is masked in all of them, as in
    their formulas. `masks: patches` are those of IDSDS (Hesse et al. 2024), where every other image loses one patch of
    a grid of 4 x 4. Both papers mask with zero after normalization, which is the mean color.

    Attributes:
        masks: What is masked.
    """

    paper: ClassVar[str] = "Zheng et al. 2025 (F-Fidelity); Hesse et al. 2024 (IDSDS)"
    kind: Literal["random_masks"] = "random_masks"
    masks: RandomMaskShape = RandomPixels()
    color: Literal["mean", "black"] = Field(
        default="mean", description="Of masked pixels; mean is the model's mean color: zero after normalization."
    )
