"""Segments of images: each is shown or hidden as a whole."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.contracts.preprocessing import Colors
from auditcore.counts.cells import cells_within
from auditcore.images.cells import cell_index

_COMPACTNESS = 10.0
"""Color against distance: the default of scikit-image and of its authors' comparison for RGB in [0,1]."""


def segment(
    pixels: Float[Tensor, "image channel height width"],
    kind: Literal["cells", "superpixels"],
    count: int,
    colors: Colors = "rgb",
) -> Int[Tensor, "image height width"]:
    """Number of the segment that each pixel belongs to, from 0, without gaps, image by image.

    Args:
        pixels: Images in pixel space [0,1].
        kind: `cells`, a square grid of at most `count`, the same for every image; or `superpixels`, connected regions
            of similar color (SLIC), computed on the CPU for each image separately.
        count: Segments wanted. SLIC gives about as many on a photo, fewer where it finds no regions.
        colors: What the channels are. SLIC compares colors as people see them (CIELAB) if they are red, green and blue,
            and otherwise the values of the channels.

    Returns:
        Labels on the device of the pixels.

    Source: Achanta et al. 2012 (SLIC), as in scikit-image, compactness 10.
    """
    height, width = pixels.shape[2:]
    if kind == "cells":
        grid = cells_within(count, height, width)
        return cell_index(height, width, grid, pixels.device).expand(len(pixels), -1, -1)
    in_order = pixels.flip(1) if colors == "bgr" else pixels
    images = in_order.permute(0, 2, 3, 1).cpu().numpy()
    labels = [_superpixels(image, count, in_color=colors in {"rgb", "bgr"}) for image in images]
    return torch.from_numpy(np.array(labels, dtype=np.int64).reshape(-1, height, width)).to(pixels.device)


def _superpixels(image: np.ndarray, count: int, *, in_color: bool) -> np.ndarray:
    from skimage.segmentation import slic  # noqa: PLC0415 - would add a second to the start of every worker

    # float64, so that the labels do not depend on how an accelerator rounded the last bit of the color conversion
    labels = slic(
        image.astype(np.float64),
        n_segments=count,
        compactness=_COMPACTNESS,
        start_label=0,
        channel_axis=-1,
        convert2lab=in_color,
    )
    # SLIC may skip numbers
    _, numbers = np.unique(labels, return_inverse=True)
    return numbers.reshape(labels.shape)
