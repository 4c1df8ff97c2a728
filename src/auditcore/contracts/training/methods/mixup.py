"""Mixup, whole and dissected."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.training.methods.method import TrainingMethodContract


@final
class Mixup(TrainingMethodContract):
    """Blend every image, every label or both with those of a random partner of its batch.

    Attributes:
        alpha: The share of an image is drawn from Beta(alpha, alpha), once per batch.
    """

    paper: ClassVar[str] = "Zhang et al. 2018; dissected by Won et al. 2025, section 4.1"
    mixes_images: ClassVar[bool] = True
    mixes_labels: ClassVar[bool] = True
    kind: Literal["mixup"] = "mixup"
    alpha: float = Field(default=1.0, gt=0, le=100)
    mix: Literal["images_and_labels", "images", "labels"] = Field(
        default="images_and_labels",
        description="What is blended. images: the label is that of the image with the larger share. labels: the image "
        "is the one with the larger share, as it is.",
    )
