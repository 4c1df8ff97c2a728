"""AugMix with its consistency loss."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, Passes
from auditcore.contracts.training.methods.method import TrainingMethodContract

VIEWS = 3
"""The image itself and two mixtures."""


@final
class AugMix(TrainingMethodContract):
    """Blend each image with a mixture of chains of simple augmentations of itself. The label stays.

    The augmentations are those of the authors' code: autocontrast, equalize, posterize, rotate, solarize, shear and
    translate, each with a random level. Changes of color work on 8 bits, as there; each image has its own weights of
    chains and its own share of the mixture.

    With `consistency`, the cross-entropy is that of the image itself, and the predictions of the image and two mixtures
    are pulled together by their Jensen-Shannon divergence. For a multi-label model, which the paper does not have, it
    is the mean over classes of the divergence between present and absent.

    Attributes:
        width: Number of chains.
        depth: Augmentations of a chain; 1 to 3, at random, if null.
        severity: Largest level of an augmentation; levels are drawn from U(0.1, severity).
        alpha: Weights of chains are drawn from Dirichlet(alpha), shares of mixtures from Beta(alpha, alpha).
        consistency: Whether to use the Jensen-Shannon loss. Without it, the model learns from one mixture per image.
        consistency_weight: Its weight.
    """

    paper: ClassVar[str] = "Hendrycks et al. 2020"
    kind: Literal["augmix"] = "augmix"
    width: int = Field(default=3, ge=1, le=10)
    depth: int | None = Field(default=None, ge=1, le=10)
    severity: float = Field(default=3.0, ge=0.1, le=10)
    alpha: float = Field(default=1.0, gt=0, le=100)
    consistency: bool = True
    consistency_weight: float = Field(default=12.0, gt=0, le=1000)
    all_operations: bool = Field(
        default=False,
        description="Whether saturation, contrast, brightness and sharpness change too. The authors leave them out, "
        "because the benchmark of corruptions they report has them. Needs one or three channels.",
    )

    def passes(self, shape: InputShape) -> Passes:
        """Three images for each, or one without `consistency`."""
        del shape
        return GRADIENT.times(VIEWS if self.consistency else 1)
