"""A world of two classes in which a small patch decides: dark is class 0, bright is class 1; all else is noise.

The patch is at the same place in every image, so that which pixels are missing says nothing about the class. The
network is linear in patches of the image, so that the truth about it is known too.
"""

from __future__ import annotations

import functools
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import CallableExplainer
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import FactoryModel, Scores, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.training.optimizers import Adam
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.images.encoded import EncodedImage

SIDE = 16
PATCH = (slice(4, 8), slice(8, 12))
"""One sixteenth of the image, and one cell of a grid of four by four."""

SHARE = 1 / 16
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CLASSES = 2


def build(classes: int = CLASSES) -> nn.Module:
    """Factory target: a linear function of the mean colors of patches."""
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, classes))


@functools.cache
def images(count: int, seed: int) -> tuple[EncodedImage, ...]:
    """Images of both classes in turn."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        label = index % CLASSES
        pixels = random.normal(0.5, 0.08, (SIDE, SIDE, 3))
        pixels[PATCH] += 0.25 if label else -0.25
        buffer = io.BytesIO()
        Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8)).save(buffer, "PNG")
        found.append(EncodedImage(index, f"{seed}-{index}.png", buffer.getvalue(), label))
    return tuple(found)


def oracle(model: nn.Module, inputs: Tensor, targets: Tensor, sign: float = 1.0) -> Tensor:
    """Explainer that knows the patch; with sign -1, that finds it the least relevant."""
    del model, targets
    maps = torch.zeros_like(inputs[:, 0])
    maps[:, PATCH[0], PATCH[1]] = sign
    return maps


def flat(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Explainer whose maps are constant."""
    del model, targets
    return torch.ones_like(inputs[:, 0])


def _explainer(name: str, function: str, **arguments: float) -> CallableExplainer:
    return CallableExplainer(
        name=name,
        target=f"deciding_patch:{function}",
        arguments=dict(arguments),
        model_access="predictions",
        forward_passes=0,
        backward_passes=0,
    )


ORACLE = _explainer("oracle", "oracle")
INVERTED = _explainer("inverted", "oracle", sign=-1.0)
FLAT = _explainer("flat", "flat")
ACCESS = AccessRules(factories=("deciding_patch:build",), explainers=("deciding_patch:oracle", "deciding_patch:flat"))
STORED = ImageBatchReference(digest="sha256:" + "0" * 64)


def model(weights: str = "random:0", *, scores: Scores = "softmax") -> FactoryModel:
    """The network."""
    return FactoryModel(
        target="deciding_patch:build", weights=Weights(uri=weights), preprocessing=PREPROCESSING, scores=scores
    )


def training(*, epochs: int = 4, seed: int = 0) -> TrainingPlan:
    """A plan that learns the patch in a tenth of a second."""
    return TrainingPlan(seed=seed, epochs=epochs, batch_size=16, optimizer=Adam(learning_rate=0.03))
