"""CutMix."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.training.methods.method import TrainingMethodContract


@final
class CutMix(TrainingMethodContract):
    """Paste a box of a random partner into each image; the label follows the area of the box.

    The box is that of the authors' code: its center is any pixel, it may stick out, and the label follows the part
    inside the image. All images of a batch have the same box.

    Attributes:
        alpha: The share that is kept before the box is clipped is drawn from Beta(alpha, alpha), once per batch.
        probability: Share of the batches that are mixed. All of them are in the paper, in torchvision and in the
            authors' runs on ImageNet, and Won et al. name no other share; the authors' runs on CIFAR have 0.5.
    """

    paper: ClassVar[str] = "Yun et al. 2019; Won et al. 2025, section 3.2"
    mixes_images: ClassVar[bool] = True
    mixes_labels: ClassVar[bool] = True
    kind: Literal["cutmix"] = "cutmix"
    alpha: float = Field(default=1.0, gt=0, le=100)
    probability: float = Field(default=1.0, gt=0, le=1)
