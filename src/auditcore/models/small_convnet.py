"""A small convolutional network for images of 24 to 64 px, which trains in seconds on a CPU.

For trying out trainings, studies and remedies on images with known truth. Every explainer of the catalog for
convolutional networks runs on it: rectifiers are modules, and its last feature map is a quarter of the image's side, so
that maps have a shape.
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn


@final
class SmallConvNet(nn.Module):
    """Five convolutions with batch normalization and ReLU, the mean over positions, and a linear layer.

    Args:
        classes: Number of classes.
        channels: Of the image.
        width: Channels of the first layer; the last has four times as many.
    """

    def __init__(self, classes: int, channels: int, width: int) -> None:
        super().__init__()
        sizes = ((channels, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1))
        deeper = ((2 * width, 4 * width, 2), (4 * width, 4 * width, 1))
        self.features = nn.Sequential(*(_block(*size) for size in (*sizes, *deeper)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, x: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Logits of normalized images."""
        logits: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def _block(inward: int, outward: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inward, outward, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outward), nn.ReLU())


def small_convnet(classes: int = 10, channels: int = 3, width: int = 16) -> SmallConvNet:
    """A network of random weights: `auditcore.models.small_convnet:small_convnet` as the target of a model."""
    return SmallConvNet(classes, channels, width)
