"""A small real classifier, trained in seconds on scikit-learn's digits, for tests that need many audits."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

from auditcore.contracts.access import AccessRules
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.images.encoded import EncodedImage

SIDE = 32
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.3, 0.3, 0.3), std=(0.4, 0.4, 0.4))


class DigitNet(nn.Module):
    """Convolutions, a skip connection by plain `+`, BatchNorm, ReLU6: what canonical form must cope with."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.relu(self.inner(x) + x)
        x = self.relu(self.down(x))
        return self.head(self.pool(x).flatten(1))


def build(classes: int = 10) -> DigitNet:
    """Factory target of the tests."""
    return DigitNet(classes)


def build_shallow() -> nn.Module:
    """Factory target of another architecture."""
    convolutions = (nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 12, 3), nn.ReLU())
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(108, 10))


def build_flat() -> nn.Module:
    """Factory target of a model without class scores."""
    return nn.Flatten(0)


@functools.cache
def digit_pixels() -> tuple[Tensor, Tensor]:
    """All digits as RGB in [0,1], 32 x 32, with their labels."""
    digits = load_digits()
    gray = torch.from_numpy(digits.images).float()[:, None] / 16
    pixels = nn.functional.interpolate(gray, size=(SIDE, SIDE), mode="bilinear").expand(-1, 3, -1, -1)
    # a tint, so that hue and saturation have something to change
    tint = torch.tensor([1.0, 0.8, 0.5]).view(1, 3, 1, 1)
    return (pixels * tint).contiguous(), torch.from_numpy(digits.target)


@functools.cache
def trained(seed: int = 0) -> DigitNet:
    """The trained network, right on about nine digits in ten; another seed is a network that was trained again."""
    # the first caller may be in inference mode, in which nothing can be trained
    with torch.random.fork_rng(), torch.inference_mode(mode=False), torch.enable_grad():
        torch.manual_seed(seed)
        network = DigitNet()
        pixels, labels = digit_pixels()
        mean = torch.tensor(PREPROCESSING.mean).view(1, 3, 1, 1)
        std = torch.tensor(PREPROCESSING.std).view(1, 3, 1, 1)
        inputs = (pixels - mean) / std
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(8):
            for batch in torch.randperm(len(inputs)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs[batch]), labels[batch]).backward()
                optimizer.step()
    return network.eval()


def write_weights(folder: Path, seed: int = 0) -> Path:
    """Weights of a trained network as a safetensors file."""
    path = folder / ("digits.safetensors" if seed == 0 else f"digits-{seed}.safetensors")
    save_file(trained(seed).state_dict(), path)
    return path


def reference(weights: Path) -> FactoryModel:
    """How a request names the trained network."""
    return FactoryModel(target="digits:build", weights=Weights(uri=weights.as_uri()), preprocessing=PREPROCESSING)


def access(folder: Path) -> AccessRules:
    """What an operator would allow so that `reference` loads."""
    return AccessRules(factories=("digits:build",), file_roots=(folder,))


def png(position: int) -> bytes:
    """One digit as a PNG file."""
    pixels, _ = digit_pixels()
    array = np.round(pixels[position].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


def encoded(count: int, *, labeled: bool = False) -> list[EncodedImage]:
    """The first digits as encoded images."""
    _, labels = digit_pixels()
    return [EncodedImage(i, f"digit-{i}.png", png(i), int(labels[i]) if labeled else None) for i in range(count)]
