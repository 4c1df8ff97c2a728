"""Synthetic worlds in which the truth is known: what decides the class is planted, and everything else is not.

Every image has a patch that decides its class, at a random place that is aligned with the cells of a deletion grid. A
second patch is there too: one that the class does not depend on, or one that speaks against the class. The background
is colored noise. A small network is trained in seconds until it is right on nearly every image. During training, parts
of the background turn into the mean color or black, so that removing pixels shows the network nothing that it has never
seen.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from auditcore.contracts.access import AccessRules
from auditcore.contracts.images import Box
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.images.encoded import EncodedImage

SIDE = 40
CELL = 5
GRID = SIDE // CELL
PATCH = 2 * CELL
GRAY = 0.5
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(GRAY,) * 3, std=(0.25,) * 3)
TRAINING_IMAGES = 1536
EPOCHS = 12


class PatchNet(nn.Module):
    """Three convolutions and the largest value over all places, so that a patch counts the same wherever it is."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(3, 16),
            nn.MaxPool2d(2),
            *_block(16, 32),
            nn.MaxPool2d(2),
            *_block(32, 32),
        )
        self.pool = nn.MaxPool2d(SIDE // 4)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


def _block(channels_in: int, channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels_in, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()


def build(classes: int) -> PatchNet:
    """Factory target of the tests."""
    return PatchNet(classes)


COLORS = torch.tensor([[0.95, 0.1, 0.1], [0.1, 0.85, 0.1], [0.15, 0.2, 0.95], [0.5, 0.5, 0.5]])
"""Red, green, blue; the last class has no patch."""


def _stripes(kind: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(PATCH), torch.arange(PATCH), indexing="ij")
    wave = (rows, columns, rows + columns)[kind]
    return (wave // 2 % 2).float().mul(0.8).add(0.1).expand(3, -1, -1)


def _colored(kind: int) -> Tensor:
    return COLORS[kind].view(3, 1, 1).expand(-1, PATCH, PATCH)


KINDS = 3
CLASSES = KINDS + 1
"""A class for each kind of patch, and one for images without it."""

Paint = Callable[[int], Tensor]
"""Kind of a patch -> its pixels (3,P,P)."""


@dataclass(frozen=True)
class Sample:
    """Images of a world.

    Attributes:
        pixels: (N,3,S,S) in [0,1].
        labels: (N,) class.
        truth: (N,S,S) where the deciding patch is; nowhere for the class without one.
        second: (N,S,S) where the second patch is.
    """

    pixels: Tensor
    labels: Tensor
    truth: Tensor
    second: Tensor


def _background(count: int, generator: torch.Generator) -> Tensor:
    """Smooth color and fine noise around gray."""
    smooth = interpolate(torch.rand(count, 3, 5, 5, generator=generator), size=(SIDE, SIDE), mode="bilinear")
    return GRAY + 0.3 * (smooth - 0.5) + 0.05 * torch.randn(count, 3, SIDE, SIDE, generator=generator)


def _with_distractor(decides: Paint, distracts: Paint, count: int, seed: int, *, audited: bool) -> Sample:
    """The kind of the first patch is the class; the kind of the second is drawn independently."""
    generator = torch.Generator().manual_seed(seed)
    pixels = _background(count, generator)
    labels = torch.randint(KINDS if audited else CLASSES, (count,), generator=generator)
    truth, other = torch.zeros(2, count, SIDE, SIDE, dtype=torch.bool)
    for image, label in enumerate(labels.tolist()):
        first, second = _two_places(generator)
        kind = int(torch.randint(KINDS, (1,), generator=generator))
        pixels[image][:, second[0], second[1]] = distracts(kind)
        other[image][second] = True
        if label < KINDS:
            pixels[image][:, first[0], first[1]] = decides(label)
            truth[image][first] = True
    return Sample(pixels.clamp(0, 1), labels, truth, other)


def _with_suppressor(count: int, seed: int, *, audited: bool) -> Sample:
    """A red and a blue patch, each more or less pale: the stronger one is the class, the other speaks against it."""
    generator = torch.Generator().manual_seed(seed)
    pixels = _background(count, generator)
    labels = torch.zeros(count, dtype=torch.long) if audited else torch.randint(3, (count,), generator=generator)
    truth, other = torch.zeros(2, count, SIDE, SIDE, dtype=torch.bool)
    for image, label in enumerate(labels.tolist()):
        first, second = _two_places(generator)
        strong = 0.6 + 0.4 * float(torch.rand(1, generator=generator))
        pale = strong * ((0.5 if audited else 0.0) + 0.3 * float(torch.rand(1, generator=generator)))
        if label == NOTHING:
            continue
        for place, kind, strength in ((first, RED_OR_BLUE[label], strong), (second, RED_OR_BLUE[1 - label], pale)):
            pixels[image][:, place[0], place[1]] = GRAY + strength * (_colored(kind) - GRAY)
        truth[image][first], other[image][second] = True, True
    return Sample(pixels.clamp(0, 1), labels, truth, other)


RED_OR_BLUE = (0, 2)
NOTHING = 2
"""The class without patches in the world with a suppressor."""

WORLDS: Mapping[str, Callable[..., Sample]] = {
    # the color of a patch decides, a patch of stripes is there and does not count
    "color": functools.partial(_with_distractor, _colored, _stripes),
    # the direction of stripes decides, a colored patch is there and does not count
    "texture": functools.partial(_with_distractor, _stripes, _colored),
    "suppressor": _with_suppressor,
}


def draw(name: str, count: int, seed: int, *, audited: bool = False) -> Sample:
    """Images of a world, the same for the same seed; `audited` ones all have a patch that decides."""
    return WORLDS[name](count, seed, audited=audited)


def _two_places(generator: torch.Generator) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Two patches that do not overlap, on the cells of the grid."""
    while True:
        rows, columns = torch.randint(GRID - 1, (2, 2), generator=generator).tolist()
        if abs(rows[0] - rows[1]) > 1 or abs(columns[0] - columns[1]) > 1:
            first, second = (
                (slice(CELL * row, CELL * row + PATCH), slice(CELL * column, CELL * column + PATCH))
                for row, column in zip(rows, columns, strict=True)
            )
            return first, second


def _with_holes(pixels: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images lose a random share of the cells outside the deciding patch, to the mean color or to black."""
    count = len(pixels)
    share = torch.rand(count, 1, 1, generator=generator) * (torch.rand(count, 1, 1, generator=generator) < 0.5)
    lost = (torch.rand(count, GRID, GRID, generator=generator) < share).repeat_interleave(CELL, 1)
    lost = lost.repeat_interleave(CELL, 2) & ~truth
    fill = GRAY * torch.randint(2, (count, 1, 1, 1), generator=generator)
    return torch.where(lost[:, None], fill, pixels)


@functools.cache
def trained(name: str, seed: int = 0) -> PatchNet:
    """The trained network of a world."""
    sample = draw(name, TRAINING_IMAGES, seed=1000 + seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PatchNet(CLASSES)
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(EPOCHS):
            for batch in torch.randperm(TRAINING_IMAGES, generator=generator).split(64):
                pixels = _with_holes(sample.pixels[batch], sample.truth[batch], generator)
                optimizer.zero_grad()
                cross_entropy(network(normalized(pixels)), sample.labels[batch]).backward()
                optimizer.step()
    return network.eval()


def normalized(pixels: Tensor) -> Tensor:
    """As the model sees them."""
    return (pixels - GRAY) / PREPROCESSING.std[0]


def reference(name: str, folder: Path, seed: int = 0) -> FactoryModel:
    """How a request names the trained network of a world; its weights are written into the folder."""
    path = folder / f"{name}-{seed}.safetensors"
    save_file(trained(name, seed).state_dict(), path)
    return FactoryModel(
        target="planted_worlds:build",
        args=(CLASSES,),
        weights=Weights(uri=path.as_uri()),
        preprocessing=PREPROCESSING,
    )


def access(folder: Path) -> AccessRules:
    """What an operator would allow so that `reference` loads."""
    return AccessRules(factories=("planted_worlds:build",), file_roots=(folder,))


def encoded(sample: Sample) -> list[EncodedImage]:
    """The images as files, with their labels and the box of the deciding patch."""
    found = []
    for position, (pixels, label, truth) in enumerate(zip(sample.pixels, sample.labels, sample.truth, strict=True)):
        array = np.round(pixels.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(array).save(file, format="PNG")
        rows, columns = truth.nonzero().unbind(1)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        boxes = (Box.model_validate(dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))),)
        found.append(EncodedImage(position, f"{position}.png", file.getvalue(), int(label), boxes))
    return found


def map_file(maps: Tensor) -> bytes:
    """Maps (N,S,S), in the order of the images, as a file to be uploaded."""
    return save({"maps": maps.float().contiguous()})
