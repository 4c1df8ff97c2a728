"""Boxes that mixing methods cut and paste, and the labels that follow from their area."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

Frame = tuple[int, int]
"""Height and width of an image in pixels."""


class PixelBox(NamedTuple):
    """Pixels of an image: rows from `top` and columns from `left`, before `bottom` and `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def sides(self) -> Frame:
        """Height and width in pixels; 0 where nothing is inside."""
        return self.bottom - self.top, self.right - self.left

    def share(self, frame: Frame) -> float:
        """Its share of the area of the image, in [0,1]."""
        height, width = self.sides
        return height * width / (frame[0] * frame[1])


def random_pixel(random: np.random.Generator, frame: Frame) -> tuple[int, int]:
    """Row and column of a random pixel."""
    row, column = (int(random.integers(side)) for side in frame)
    return row, column


def sides_for(share: float, frame: Frame) -> Frame:
    """Sides of a box with a share of the area and the proportions of the image, rounded down.

    Source: the authors' code of CutMix (Yun et al. 2019), `rand_bbox`.
    """
    height, width = (int(side * math.sqrt(share)) for side in frame)
    return height, width


def box_around(center: tuple[int, int], sides: Frame, frame: Frame) -> PixelBox:
    """The box around a pixel, as far as it lies inside the image; half sides are rounded down.

    Source: the authors' code of Cutout (DeVries and Taylor 2017) and CutMix (Yun et al. 2019).
    """
    starts = [max(middle - side // 2, 0) for middle, side in zip(center, sides, strict=True)]
    ends = [min(middle + side // 2, most) for middle, side, most in zip(center, sides, frame, strict=True)]
    return PixelBox(*starts, *ends)


def inside(boxes: Sequence[PixelBox], frame: Frame, device: torch.device) -> Bool[Tensor, "image 1 height width"]:
    """Whether a pixel is inside the box of its image.

    Args:
        boxes: One for each image.
        frame: Height and width.
        device: Where the result is.
    """
    bounds = torch.tensor(boxes, dtype=torch.int64).to(device)
    top, left, bottom, right = (bound[:, None] for bound in bounds.unbind(dim=1))
    row, column = (torch.arange(side, device=device) for side in frame)
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def labels_by_share(
    own: Float[Tensor, "image class"], pasted: Float[Tensor, "image class"], shares: Float[Tensor, " image"]
) -> Float[Tensor, "image class"]:
    """Labels of images of which a share comes from others.

    Args:
        own: Labels of the images.
        pasted: Labels of what is pasted into each.
        shares: Share of the pasted part, in [0,1].
    """
    part = shares[:, None]
    return (1 - part) * own + part * pasted
