"""Localization: how much positive relevance lies on objects. Rows are y and columns are x, in maps and boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.images.preprocess import PixelBox

Boxes = Sequence[PixelBox]

LEAST_HEAT = 0.1
"""The effective heat ratio drops pixels below this share of the map's maximum (Zhang et al. 2021, published code)."""

HEAT_QUANTILES = 11
"""Number of thresholds of the effective heat ratio (Zhang et al. 2021, published code)."""

HIGHEST_THRESHOLD = 0.99
"""Highest threshold of the effective heat ratio, as a share of the maximum (Zhang et al. 2021, published code)."""


OTSU_BINS = 256
"""Bins of the histogram for Otsu's threshold: the gray levels of 8 bits, for which Otsu 1979 is written."""


def inside_boxes(
    boxes: Sequence[Boxes], height: int, width: int, device: torch.device | str = "cpu"
) -> Bool[Tensor, "image {height} {width}"]:
    """Return the pixels inside any of the boxes of each image."""
    inside = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, of_image in zip(inside, boxes, strict=True):
        for box in of_image:
            mask[box.y0 : box.y1, box.x0 : box.x1] = True
    return inside.to(device)


def energy_pointing_game(
    maps: Float[Tensor, "image height width"], inside: Bool[Tensor, "..."]
) -> Float[Tensor, " image"]:
    """Compute positive relevance inside the boxes divided by all positive relevance.

    Args:
        maps: One value per pixel; negative ones count as 0.
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
    maps: Float[Tensor, "image height width"], inside: Bool[Tensor, "..."]
) -> Float[Tensor, " image"]:
    """Compute heat inside the boxes divided by the number of hot pixels, as an area over quantiles of the hot pixels.

    The map is rectified and divided by its maximum, and values below `LEAST_HEAT` are dropped. The thresholds are
    `HEAT_QUANTILES` equidistant quantiles from 0 to 1 of the remaining values, interpolated linearly, and at most
    `HIGHEST_THRESHOLD`. At each threshold, consider the pixels that reach it: their heat inside the boxes is divided by
    their number.

    Args:
        maps: One value per pixel; negative ones count as 0.
        inside: Pixels inside the boxes, of the same shape.

    Returns:
        Areas in [0, 1], float64; 1 for a map that is 1 inside the boxes and 0 outside. NaN (undefined) for maps without
        positive relevance or not finite.

    Raises:
        ShapeError: The shapes differ.

    Source: Zhang et al. 2021 (InputIBA) and their published code, where pixels are weighted by their heat; Won et al.
    2025, Eq. 2. Their code overwrites its input; ours does not.
    """
    _require_same_shape(inside, maps)
    heat = _heat(maps).flatten(1)
    heat = heat / heat.amax(dim=1, keepdim=True)
    counted = heat.masked_fill(~inside.flatten(1), 0)
    ratios = []
    for quantile in _quantiles(heat.masked_fill(heat < LEAST_HEAT, 0)):
        # every quantile is a mixture of values of at least LEAST_HEAT, so dropped pixels never reach it
        hot = heat >= quantile.clamp(max=HIGHEST_THRESHOLD)[:, None]
        # NaN rows have no hot pixels: 0 / 0 is NaN
        ratios.append(torch.where(hot, counted, 0).sum(dim=1) / hot.sum(dim=1))
    return torch.trapezoid(torch.stack(ratios, dim=1), dx=1 / (HEAT_QUANTILES - 1), dim=1)


def wsol_iou(
    maps: Float[Tensor, "image height width"], boxes: Sequence[Boxes], *, threshold: float
) -> Float[Tensor, " image"]:
    """Compute the overlap of the box around all hot pixels with the given box that matches it best.

    A pixel is hot if it reaches `threshold` times the maximum.

    Args:
        maps: One value per pixel; negative ones count as 0.
        boxes: Boxes of each image, in pixels of the map.
        threshold: Share of the maximum, in (0, 1).

    Returns:
        Intersection over union in [0, 1], float64. NaN (undefined) for maps without positive relevance or not finite,
        and for images without boxes.

    Raises:
        ShapeError: The number of lists of boxes is not the number of images.

    Source: Won et al. 2025, section 3.3: "the smallest box that contains the whole mask region". They do not give a
    threshold.
    """
    return _best_overlaps(maps, boxes, threshold, _box_of_mask)


def wsol_iou_largest_region(
    maps: Float[Tensor, "image height width"], boxes: Sequence[Boxes], *, threshold: float
) -> Float[Tensor, " image"]:
    """Compute the overlap of the box around the largest hot region with the given box that matches it best.

    A pixel is hot if it reaches `threshold` times the maximum. Regions are connected over edges and corners, as
    contours are. If several regions are equally large, the first in reading order is used.

    Args:
        maps: One value per pixel; negative ones count as 0.
        boxes: Boxes of each image, in pixels of the map.
        threshold: Share of the maximum, in (0, 1).

    Returns:
        Intersection over union in [0, 1], float64. NaN (undefined) for maps without positive relevance or not finite,
        and for images without boxes.

    Raises:
        ShapeError: The number of lists of boxes is not the number of images.

    Source: Choe et al. 2020 (MaxBoxAcc), before its threshold on the overlap.
    """
    return _best_overlaps(maps, boxes, threshold, _box_of_largest_region)


def average_precision(
    maps: Float[Tensor, "image height width"], inside: Bool[Tensor, "..."]
) -> Float[Tensor, " image"]:
    """Compute the area under the precision-recall curve of a map that finds the pixels of the objects.

    Pixels are taken in the order of their relevance, and pixels of the same relevance together; with precision P and
    recall R after each value, the area is the sum of P (R - R before it).

    Args:
        maps: One value per pixel; negative ones count as 0.
        inside: Pixels of the objects, of the same shape.

    Returns:
        Areas in [0, 1], float64; a map without knowledge gets the share of the image that the objects cover. NaN
        (undefined) for maps without positive relevance or not finite, and for images without objects.

    Raises:
        ShapeError: The shapes differ.

    Source: Arun et al. 2021, "localization utility"; the step-wise area is that of scikit-learn.
    """
    _require_same_shape(inside, maps)
    heat, order = _heat(maps).flatten(1).sort(dim=1, descending=True)
    hits = inside.flatten(1).gather(1, order).double().cumsum(dim=1)
    taken = torch.arange(1, heat.shape[1] + 1, device=heat.device, dtype=torch.float64)
    # a threshold lies only below the last of equal values
    last = torch.ones_like(heat, dtype=torch.bool)
    last[:, :-1] = heat[:, :-1] != heat[:, 1:]
    reached = torch.where(last, hits, 0).cummax(dim=1).values
    gained = reached.diff(dim=1, prepend=torch.zeros_like(reached[:, :1]))
    areas = (torch.where(last, gained, 0) * hits / taken).sum(dim=1) / hits[:, -1]
    return areas.masked_fill(heat.isnan().any(dim=1), torch.nan)


def otsu_threshold(maps: Float[Tensor, "image height width"]) -> Float[Tensor, " image"]:
    """Compute the threshold that separates two classes of pixels with the largest variance between them.

    The histogram of the rectified map has `OTSU_BINS` equal bins from its smallest to its largest value. The threshold
    is the center of the last bin of the lower class, and pixels above it are hot.

    Args:
        maps: One value per pixel; negative ones count as 0.

    Returns:
        Thresholds in the units of the map, float64. NaN (undefined) for maps without positive relevance or not finite,
        and for maps of one value.

    Source: Otsu 1979.
    """
    heat = _heat(maps).flatten(1).cpu().numpy()
    thresholds = np.full(len(heat), np.nan)
    for image, values in enumerate(heat):
        if not np.isfinite(values).all() or values.min() == values.max():
            continue
        counts, edges = np.histogram(values, bins=OTSU_BINS, range=(values.min(), values.max()))
        centers = (edges[:-1] + edges[1:]) / 2
        below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
        mean_below = np.cumsum(counts * centers) / below
        mean_above = (np.cumsum((counts * centers)[::-1]) / np.cumsum(counts[::-1]))[::-1]
        between = below[:-1] * above[1:].astype(np.float64) * (mean_below[:-1] - mean_above[1:]) ** 2
        thresholds[image] = centers[int(between.argmax())]
    return torch.from_numpy(thresholds).to(maps.device)


def mask_iou(
    maps: Float[Tensor, "image height width"], inside: Bool[Tensor, "..."], *, threshold: float | None
) -> Float[Tensor, " image"]:
    """Compute the overlap of the hot pixels with the pixels of the objects.

    Args:
        maps: One value per pixel; negative ones count as 0.
        inside: Pixels of the objects, of the same shape.
        threshold: Share of the maximum that a hot pixel reaches, in (0, 1); None for pixels above Otsu's threshold.

    Returns:
        Intersection over union in [0, 1], float64. NaN (undefined) for maps without positive relevance or not finite,
        for maps of one value without a threshold, and for images without objects.

    Raises:
        ShapeError: The shapes differ.

    Source: Saporta et al. 2022, whose mIoU is the mean over images, with Otsu's threshold.
    """
    _require_same_shape(inside, maps)
    heat = _heat(maps)
    if threshold is None:
        cut = otsu_threshold(maps)[:, None, None]
        hot = heat > cut
    else:
        cut = threshold * heat.amax(dim=(1, 2), keepdim=True)
        hot = heat >= cut
    both, either = (pixels.sum(dim=(1, 2)).double() for pixels in (hot & inside, hot | inside))
    undefined = cut.isnan().flatten() | ~inside.flatten(1).any(dim=1)
    return (both / either).masked_fill(undefined, torch.nan)


def near_objects(inside: Bool[Tensor, "image height width"], tolerance_px: float) -> Bool[Tensor, "image height width"]:
    """Return the pixels on objects, and those at most a distance away from one; none for an image without objects.

    Args:
        inside: Pixels of the objects.
        tolerance_px: Largest Euclidean distance between the centers of two pixels.
    """
    if tolerance_px == 0:
        return inside
    near = [ndimage.distance_transform_edt(~one) <= tolerance_px if one.any() else one for one in inside.cpu().numpy()]
    return torch.from_numpy(np.stack(near)).to(inside.device)


def hit_rate(maps: Float[Tensor, "image height width"], near: Bool[Tensor, "..."]) -> Float[Tensor, " image"]:
    """Compute whether the most relevant pixel is on an object or near one.

    Args:
        maps: One value per pixel; negative ones count as 0.
        near: Pixels that count as hits, from `near_objects`, of the same shape.

    Returns:
        1 for a hit and 0 for a miss, float64; the share of hits among several most relevant pixels. NaN (undefined) for
        maps without positive relevance or not finite, and for images without objects.

    Raises:
        ShapeError: The shapes differ.

    Source: Zhang et al. 2018, section 4.1, whose tolerance is 15 pixels; Saporta et al. 2022, whose hit rate has none.
    """
    _require_same_shape(near, maps)
    heat = _heat(maps)
    largest = heat == heat.amax(dim=(1, 2), keepdim=True)
    hits = (largest & near).sum(dim=(1, 2)).double() / largest.sum(dim=(1, 2))
    # a map of NaN has no largest pixel: 0 / 0 is NaN
    return hits.masked_fill(~near.flatten(1).any(dim=1), torch.nan)


def mask_box(mask: Bool[Tensor, "height width"]) -> PixelBox:
    """Return the smallest box around a mask of at least one pixel."""
    return _box_of_mask(mask.cpu().numpy())


def _best_overlaps(
    maps: Float[Tensor, "image height width"],
    boxes: Sequence[Boxes],
    threshold: float,
    box_of: Callable[[np.ndarray], PixelBox],
) -> Float[Tensor, " image"]:
    """Compute the overlap of the box that `box_of` finds around hot pixels with the given box that matches it best."""
    if len(boxes) != len(maps):
        raise ShapeError(expected=f"boxes of {len(maps)} images", actual=f"boxes of {len(boxes)}")
    overlaps = np.full(len(maps), np.nan)
    for image, (heat, of_image) in enumerate(zip(_heat(maps).cpu().numpy(), boxes, strict=True)):
        if of_image and np.isfinite(heat).all():
            found = box_of(heat >= threshold * heat.max())
            overlaps[image] = max(_overlap(found, box) for box in of_image)
    return torch.from_numpy(overlaps).to(maps.device)


def _heat(maps: Float[Tensor, "image height width"]) -> Float[Tensor, "image height width"]:
    """Rectify maps, in float64; a map is all NaN if it has no positive value or one that is not finite."""
    heat = maps.double().clamp(min=0)
    undefined = ~maps.isfinite().all(dim=2).all(dim=1) | (heat.amax(dim=(1, 2)) == 0)
    return heat.masked_fill(undefined[:, None, None], torch.nan)


def _quantiles(heat: Float[Tensor, "image pixel"]) -> Iterator[Float[Tensor, " image"]]:
    """Yield quantiles 0, 0.1 .. 1 of the positive values of every row, interpolated linearly; NaN for rows of NaN.

    Positions are computed as integers and remainders. A product such as 0.2 * 50175 may round up, and the quantile
    would then lie just above the value of its own pixel.
    """
    # dropped pixels are 0 and come first
    ordered = heat.sort(dim=1).values
    dropped = (ordered == 0).sum(dim=1)
    intervals = HEAT_QUANTILES - 1
    last = heat.shape[1] - 1
    for step in range(HEAT_QUANTILES):
        position = step * (last - dropped)
        lower, rest = dropped + position // intervals, (position % intervals).double() / intervals
        upper = (lower + 1).clamp(max=last)
        below, above = (ordered.gather(1, at[:, None])[:, 0] for at in (lower, upper))
        yield below + (above - below) * rest


def _box_of_mask(mask: np.ndarray) -> PixelBox:
    """Return the smallest box around all pixels of a mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return PixelBox(x0=int(columns[0]), y0=int(rows[0]), x1=int(columns[-1]) + 1, y1=int(rows[-1]) + 1)


def _box_of_largest_region(mask: np.ndarray) -> PixelBox:
    """Return the smallest box around the largest connected region of a mask."""
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    largest = int(np.bincount(regions.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(regions)[largest]
    return PixelBox(x0=columns.start, y0=rows.start, x1=columns.stop, y1=rows.stop)


def _overlap(a: PixelBox, b: PixelBox) -> float:
    """Compute the intersection over union of two boxes."""
    width = max(0, min(a.x1, b.x1) - max(a.x0, b.x0))
    height = max(0, min(a.y1, b.y1) - max(a.y0, b.y0))
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def _require_same_shape(inside: Tensor, maps: Tensor) -> None:
    if inside.shape != maps.shape:
        raise ShapeError(expected=tuple(maps.shape), actual=tuple(inside.shape))
