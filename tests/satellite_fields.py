"""A satellite's model: fields in six bands of 16 bits, and a network that tells what grows there."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

CROPS = ("maize", "rape", "fallow")
HEIGHT, WIDTH = 48, 80
RANGE = (0, 10_000)
"""Reflectance times 10 000, as satellites deliver it."""

MEAN = (0.06, 0.09, 0.09, 0.3, 0.22, 0.14)
STD = (0.03, 0.04, 0.05, 0.12, 0.08, 0.06)
PREPROCESSING: dict[str, Any] = {
    "resize": None,
    "crop": {"height": HEIGHT, "width": WIDTH},
    "range": list(RANGE),
    "mean": list(MEAN),
    "std": list(STD),
}
MEADOW = (0.04, 0.07, 0.06, 0.28, 0.2, 0.11)
SPECTRA = (
    (0.03, 0.06, 0.04, 0.45, 0.2, 0.09),
    (0.07, 0.14, 0.13, 0.4, 0.24, 0.13),
    (0.1, 0.13, 0.17, 0.22, 0.32, 0.27),
)
"""Reflectance of a meadow and of each crop: blue, green, red, near infrared, two bands of short-wave infrared."""

IMAGES, BATCH, EPOCHS = 192, 16, 5
"""Of the training."""


class CropNet(nn.Module):
    """Convolutions and rectifiers, each a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(len(MEAN), 12, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(12, 16, 3, padding=1), nn.ReLU()),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, len(CROPS))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


def build() -> CropNet:
    """Factory target of the tests."""
    return CropNet()


def field(seed: int, crop: int) -> NDArray[np.uint16]:
    """Reflectance (H,W,6) of one field in a meadow; some pixels are clouds beyond the declared range."""
    random = np.random.default_rng(seed)
    ground = np.tile(np.array(MEADOW), (HEIGHT, WIDTH, 1))
    top, left = random.integers(4, HEIGHT - 28), random.integers(4, WIDTH - 44)
    ground[top : top + 24, left : left + 40] = SPECTRA[crop]
    ground *= 1 + 0.1 * random.standard_normal((HEIGHT, WIDTH, 1))
    values = (ground.clip(0, None) * 10_000).round().astype(np.uint16)
    values[:2, :5] = 14_000
    return values


def inputs(fields: NDArray[np.uint16]) -> Tensor:
    """Normalized inputs (N,6,H,W) of reflectances (N,H,W,6)."""
    shown = (fields.astype(np.float64) / RANGE[1]).clip(0, 1)
    return torch.from_numpy(((shown - MEAN) / STD).transpose(0, 3, 1, 2)).float()


@functools.cache
def trained() -> CropNet:
    """The network, right on nearly every field."""
    crops = np.arange(IMAGES) % len(CROPS)
    images = inputs(np.stack([field(seed, crop) for seed, crop in enumerate(crops)]))
    labels = torch.from_numpy(crops)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CropNet()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(EPOCHS):
            for batch in torch.randperm(IMAGES).split(BATCH):
                optimizer.zero_grad()
                functional.cross_entropy(network(images[batch]), labels[batch]).backward()
                optimizer.step()
    return network.eval()


def tiff(values: NDArray[np.uint16]) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="minisblack", planarconfig="contig")
    return file.getvalue()


def npy(values: NDArray[np.uint16]) -> bytes:
    """Bands first and in floating point, as rasterio gives them."""
    file = io.BytesIO()
    np.save(file, values.transpose(2, 0, 1).astype(np.float32))
    return file.getvalue()
