"""Whether positive relevance lies inside boxes. Rows of a map are y, columns are x, in maps and in boxes alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.images.preprocess import PixelBox

Boxes = Sequence[PixelBox]


def inside_boxes(
    boxes: Sequence[Boxes], height: int, width: int, device: torch.device | str = "cpu"
) -> Bool[Tensor, "image {height} {width}"]:
    """The pixels in any of the boxes of each image."""
    inside = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, of_image in zip(inside, boxes, strict=True):
        for box in of_image:
            mask[box.y0 : box.y1, box.x0 : box.x1] = True
    return inside.to(device)


def energy_pointing_game(
    maps: Float[Tensor, "image height width"], inside: Bool[Tensor, "..."]
) -> Float[Tensor, " image"]:
    """Positive relevance inside the boxes over all positive relevance.

    Args:
        maps: One value a pixel; negative ones count as 0.
        inside: Pixels inside the boxes, of the same shape.

    Returns:
        Shares in [0, 1], float64. NaN (undefined) for maps without positive relevance or not finite.

    Raises:
        ShapeError: The shapes differ.

    Source: Wang et al. 2020 (Score-CAM), whose published code takes rows for x.
    """
    _require_same_shape(inside, maps)
    heat = _heat(maps)
    return (heat * inside).sum(dim=(1, 2)) / heat.sum(dim=(1, 2))


def effective_heat_ratio(
    maps: Float[Tensor, "image height width"], inside: Bool[Tensor, "..."], *, quantiles: int, weighted: bool
) -> Float[Tensor, " image"]:
    """Area, over quantiles q of the map, of the heat inside the boxes relative to the number of pixels of at least q.

    The map is rectified and divided by its maximum; then, for quantiles from 0 to 1 at equal distances, linear between
    pixels, the heat inside the boxes among pixels of at least q is divided by the number of pixels of at least q.

    Args:
        maps: One value a pixel; negative ones count as 0.
        inside: Pixels inside the boxes, of the same shape.
        quantiles: Number of quantiles, at least 2; the lowest is the minimum, the highest the maximum of the map.
        weighted: True sums the heat of the pixels inside, False counts them.

    Returns:
        Areas in [0, 1], float64. NaN (undefined) for maps without positive relevance or not finite.

    Raises:
        ShapeError: The shapes differ, or there are fewer than 2 quantiles.

    Source: Zhang et al. 2021 (InputIBA). Their code first drops values below 0.1, caps q at 0.99 and overwrites its
    input.
    """
    _require_same_shape(inside, maps)
    if quantiles < 2:  # noqa: PLR2004 - an area has two ends
        raise ShapeError(expected="at least 2 quantiles", actual=quantiles)
    heat = _heat(maps).flatten(1)
    heat = heat / heat.amax(dim=1, keepdim=True)
    counted = heat if weighted else torch.ones_like(heat)
    counted = counted.masked_fill(~inside.flatten(1), 0)
    ratios = []
    for threshold in _quantiles(heat, quantiles):
        hot = heat >= threshold[:, None]
        # NaN rows have no hot pixels: 0 / 0 is NaN
        ratios.append(torch.where(hot, counted, 0).sum(dim=1) / hot.sum(dim=1))
    return torch.trapezoid(torch.stack(ratios, dim=1), dx=1 / (quantiles - 1), dim=1)


def wsol_iou(
    maps: Float[Tensor, "image height width"], boxes: Sequence[Boxes], *, threshold: float
) -> Float[Tensor, " image"]:
    """Overlap of the box around the largest hot region with the box that fits it best.

    Hot are pixels of at least `threshold` times the maximum. Regions are connected over edges and corners, as
    contours are; of equally large ones the first in reading order counts.

    Args:
        maps: One value a pixel; negative ones count as 0.
        boxes: Boxes of each image, in pixels of the map.
        threshold: Share of the maximum, in (0, 1).

    Returns:
        Intersection over union in [0, 1], float64. NaN (undefined) for maps without positive relevance or not finite,
        and for images without boxes.

    Raises:
        ShapeError: Not one list of boxes an image.

    Source: Choe et al. 2020 (MaxBoxAcc), before its threshold on the overlap.
    """
    if len(boxes) != len(maps):
        raise ShapeError(expected=f"boxes of {len(maps)} images", actual=f"boxes of {len(boxes)}")
    rows = _heat(maps).cpu().numpy()
    overlaps = [
        max((_overlap(_hot_box(heat, threshold), box) for box in of_image), default=torch.nan)
        if np.isfinite(heat).all()
        else torch.nan
        for heat, of_image in zip(rows, boxes, strict=True)
    ]
    return torch.tensor(overlaps, dtype=torch.float64, device=maps.device)


def _heat(maps: Float[Tensor, "image height width"]) -> Float[Tensor, "image height width"]:
    """Rectified maps in float64; all NaN where nothing is positive or a value is not finite."""
    heat = maps.double().clamp(min=0)
    undefined = ~maps.isfinite().all(dim=2).all(dim=1) | (heat.amax(dim=(1, 2)) == 0)
    return heat.masked_fill(undefined[:, None, None], torch.nan)


def _quantiles(heat: Float[Tensor, "image pixel"], count: int) -> list[Float[Tensor, " image"]]:
    """Quantiles 0, 1/(count-1) .. 1 of every row, linear between values.

    Positions are whole numbers and remainders: a product such as 0.2 * 50175 may round to just above the pixel whose
    value the quantile is, which would then no longer reach it.
    """
    ordered = heat.sort(dim=1).values
    found = []
    for step in range(count):
        lower, rest = divmod(step * (heat.shape[1] - 1), count - 1)
        upper = min(lower + 1, heat.shape[1] - 1)
        found.append(ordered[:, lower] + (ordered[:, upper] - ordered[:, lower]) * (rest / (count - 1)))
    return found


def _hot_box(heat: np.ndarray, threshold: float) -> PixelBox:
    """The box around the largest connected region of at least `threshold` times the maximum."""
    regions, _ = ndimage.label(heat >= threshold * heat.max(), structure=np.ones((3, 3)))
    largest = int(np.bincount(regions.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(regions)[largest]
    return PixelBox(x0=columns.start, y0=rows.start, x1=columns.stop, y1=rows.stop)


def _overlap(a: PixelBox, b: PixelBox) -> float:
    """Intersection over union of two boxes."""
    width = max(0, min(a.x1, b.x1) - max(a.x0, b.x0))
    height = max(0, min(a.y1, b.y1) - max(a.y0, b.y0))
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def _require_same_shape(inside: Tensor, maps: Tensor) -> None:
    if inside.shape != maps.shape:
        raise ShapeError(expected=tuple(maps.shape), actual=tuple(inside.shape))
