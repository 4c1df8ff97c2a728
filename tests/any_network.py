"""A small network for images of any channels and size, and such images."""

from __future__ import annotations

import io

import numpy as np
from torch import Tensor, nn

from auditcore.contracts.images import Box
from auditcore.images.encoded import EncodedImage


class Network(nn.Module):
    """Small, convolutional, for any channels and sizes."""

    def __init__(self, channels: int, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        )
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def arrays(channels: int, height: int, width: int, count: int = 3) -> list[EncodedImage]:
    """Labelled images of random values in [0, 1], as files of NumPy."""
    found = []
    for index in range(count):
        values = np.random.default_rng(index).random((height, width, channels)).astype(np.float32)
        file = io.BytesIO()
        np.save(file, values)
        box = (Box(x0=2.0, y0=3.0, x1=width / 2, y1=height - 2.0),)
        found.append(EncodedImage(index, f"{index}.npy", file.getvalue(), 1, box))
    return found
