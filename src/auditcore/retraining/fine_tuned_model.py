"""A model that is used to missing pixels, and images on which explainers are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from jaxtyping import Float, Int
from torch import Tensor

from auditcore.models.classifier import Classifier
from auditcore.training.labeled_images import LabeledImages


@final
@dataclass(frozen=True)
class FineTuned:
    """A model that is used to missing pixels, and images on which explainers are measured.

    Attributes:
        measured: The model that is asked about images with missing pixels.
        explained: The model that makes the maps.
        images: The images.
        targets: Class whose score is read and explained, for each image.
        logits: Of the images as they are, on the CPU.
    """

    measured: Classifier
    explained: Classifier
    images: LabeledImages
    targets: Int[Tensor, " image"]
    logits: Float[Tensor, "image class"]

    def take(self, part: slice) -> FineTuned:
        """The same for some of the images."""
        rows = range(len(self.images))[part]
        return replace(self, images=self.images.take(rows), targets=self.targets[part], logits=self.logits[part])
