"""A hospital's model: two findings on synthetic X-rays of the chest, a network that finds them, and DICOM files.

A nodule is a bright disc, an effusion a bright area with a level at the bottom of a lung. The network is trained in
seconds on such pictures and finds both on pictures that it has not seen.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, apply_windowing
from torch import Tensor, nn
from torch.nn import functional

from dicom_files import dicom_file

FINDINGS = ("nodule", "effusion")
SIDE = 512
MEAN, STD = 0.4, 0.2
HEIGHT, WIDTH = 640, 560
"""Of the files."""

PREPROCESSING: dict[str, Any] = {"resize": SIDE, "fit": "letterbox", "crop": None, "mean": [MEAN], "std": [STD]}
"""Values are what each file declares: its window, or the range of its bits."""

PICTURES, BATCH, EPOCHS = 160, 16, 14
"""Of the training."""


@dataclass(frozen=True)
class XRay:
    """A picture in [0, 1], and where its findings are."""

    picture: NDArray[np.float64]
    masks: dict[int, NDArray[np.bool_]]


class FindingNet(nn.Module):
    """Strided convolutions and one logit per finding."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AvgPool2d(4)]
        for channels, wider, stride in ((1, 8, 2), (8, 16, 2), (16, 16, 1)):
            layers += [nn.Conv2d(channels, wider, 3, stride, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(16, len(FINDINGS))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def build() -> FindingNet:
    """Factory target of the tests."""
    return FindingNet()


def xray(seed: int, findings: tuple[int, ...], height: int = HEIGHT, width: int = WIDTH) -> XRay:
    """A chest with two dark lungs and the given findings."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.full((height, width), 0.55) + 0.05 * np.sin(y / height * 40)  # ribs
    lungs = []
    for center in (0.28, 0.72):
        lung = ((x / width - center) / 0.18) ** 2 + ((y / height - 0.5) / 0.34) ** 2 < 1
        picture[lung] -= 0.3
        lungs.append(lung)
    picture += 0.02 * height / HEIGHT * random.standard_normal(picture.shape)
    masks = {}
    if 0 in findings:
        angle, lung = random.uniform(0, 2 * np.pi), random.integers(2)
        column = width * ((0.28, 0.72)[lung] + 0.08 * np.cos(angle))
        row = height * (0.42 + 0.12 * np.sin(angle))
        masks[0] = (x - column) ** 2 + (y - row) ** 2 < (height * random.uniform(0.05, 0.06)) ** 2
        picture[masks[0]] += 0.45
    if 1 in findings:
        masks[1] = lungs[random.integers(2)] & (y > height * random.uniform(0.66, 0.72))
        picture[masks[1]] += 0.3
    return XRay(picture.clip(0, 1), masks)


def inputs(pictures: NDArray[np.floating[Any]]) -> Tensor:
    """Normalized inputs (N,1,H,H) of pictures (N,H,W) that are higher than wide, with black on both sides."""
    beside = pictures.shape[1] - pictures.shape[2]
    square = np.pad(pictures, ((0, 0), (0, 0), (beside // 2, beside - beside // 2)))
    return torch.from_numpy((square - MEAN) / STD).float()[:, None]


@functools.cache
def trained() -> FindingNet:
    """The network after some seconds on pictures of a quarter of the size, which its first layer would make of them."""
    present = np.random.default_rng(0).random((PICTURES, len(FINDINGS))) < 0.5
    pictures = [
        xray(seed, tuple(np.flatnonzero(row)), SIDE // 4, SIDE * WIDTH // HEIGHT // 4).picture
        for seed, row in enumerate(present)
    ]
    images, labels = inputs(np.stack(pictures)), torch.from_numpy(present).float()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = FindingNet()
        optimizer = torch.optim.Adam(network.parameters())
        steps = EPOCHS * PICTURES // BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-2, total_steps=steps)
        for _ in range(EPOCHS):
            for batch in torch.randperm(PICTURES).split(BATCH):
                optimizer.zero_grad()
                logits = network.head(network.features[1:](images[batch]).mean((2, 3)))
                functional.binary_cross_entropy_with_logits(logits, labels[batch]).backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def dicom(one: XRay, device: str) -> bytes:
    """A file of 12 bits as one of several devices writes it.

    The picture is the same whichever it is, up to rounding. Those with a window also have a marker beside the patient,
    which is brighter than the window shows.
    """
    match device:
        case "plain":
            return dicom_file((one.picture * 4095).round().astype(np.uint16))
        case "inverted":
            stored = ((1 - one.picture) * 4095).round().astype(np.uint16)
            return dicom_file(stored, PhotometricInterpretation="MONOCHROME1")
        case "signed":
            stored = ((one.picture * 4095).round() - 2048).astype(np.int16)
            return dicom_file(stored, RescaleSlope=1, RescaleIntercept=2048)
        case "windowed":
            stored = (400 + one.picture * 2000).round().astype(np.uint16)
            stored[MARKER] = 4000
            # units from -200 to 3800, where a window reaches half a unit further than its width says
            return dicom_file(stored, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1800.5, WindowWidth=4001)
        case "windowed and inverted":
            stored = (2400 - one.picture * 2000).round().astype(np.uint16)
            stored[MARKER] = 0
            return dicom_file(stored, PhotometricInterpretation="MONOCHROME1", WindowCenter=1400.5, WindowWidth=2001)
    msg = f"no device writes files that are {device}"
    raise ValueError(msg)


MARKER = (slice(20, 61), slice(20, 51))
DEVICES = ("plain", "inverted", "signed", "windowed", "windowed and inverted")


def read_by_pydicom(data: bytes) -> NDArray[np.float64]:
    """The picture in [0, 1], by pydicom's own functions for rescaling and windows."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    units = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float64)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    first = -2048 if dataset.PixelRepresentation else 0
    low, high = first * slope + intercept, (first + 4095) * slope + intercept
    # it spreads the window over the range of the stored bits
    shown = apply_windowing(units, dataset) if "WindowCenter" in dataset else units
    values = (shown - low) / (high - low)
    return 1 - values if dataset.PhotometricInterpretation == "MONOCHROME1" else values


def resized(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """The picture with the height of the model's input, smoothed by torch."""
    size = (SIDE, SIDE * WIDTH // HEIGHT)
    shown = functional.interpolate(torch.from_numpy(picture)[None, None], size=size, mode="bilinear", antialias=True)
    return shown[0, 0].numpy()


def nearest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of a file on the model's input: the nearest pixel decides, and the borders are outside."""
    height, width = SIDE, SIDE * WIDTH // HEIGHT
    rows = ((np.arange(height) + 0.5) * HEIGHT / height).astype(int)
    columns = ((np.arange(width) + 0.5) * WIDTH / width).astype(int)
    beside = (SIDE - width) // 2
    return np.pad(mask[rows][:, columns], ((0, 0), (beside, beside)))


def outline(mask: NDArray[np.bool_]) -> list[float]:
    """A polygon, x0, y0, x1, y1 ..., around exactly the pixels of a mask that has one run in each of its rows."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, end = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    left = [(x, y + down) for x, y in zip(first, rows, strict=True) for down in (0, 1)]
    right = [(x, y + down) for x, y in zip(end, rows, strict=True) for down in (0, 1)]
    return [float(value) for corner in (*left, *reversed(right)) for value in corner]


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's run lengths of a mask: column by column, the first run is outside."""
    values = mask.T.ravel()
    ends = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *ends, len(values)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if values[0] else counts}
