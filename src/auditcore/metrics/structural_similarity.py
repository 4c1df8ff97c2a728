"""Structural similarity of two maps: means, variances and correlation of small windows."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from auditcore.errors import ShapeError

K1, K2 = 0.01, 0.03
"""Shares of the data range that stabilize the quotients of means and of variances (Wang et al. 2004)."""


def structural_similarity(
    a: Float[Tensor, "image channel height width"],
    b: Float[Tensor, "..."],
    data_range: Float[Tensor, "..."],
    *,
    window: int = 11,
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, " image"]:
    """Compute the mean structural similarity over uniform windows that lie entirely inside the image and the mask.

    Channels are compared one by one and averaged, and covariances are sample covariances, as in scikit-image by default
    with `channel_axis`.

    Args:
        a: One map per image.
        b: The maps to compare with, of the same shape.
        data_range: (N,) range of values that counts as full contrast. It belongs to the kind of map and not to the
            pair: with a range of 1, unrelated maps of scale 1e-3 have a similarity of 0.998.
        window: Side of the windows in pixels, odd.
        mask: Valid pixels: (N,1,H,W), or (1,1,H,W) for all images; all pixels if None.

    Returns:
        Similarities in [-1, 1], computed in float64. NaN (undefined) if no window lies inside, if the data range is not
        a positive number, or if a valid window contains a value that is not finite.

    Raises:
        ShapeError: The shapes differ, or the window is even.

    Source: Wang et al. 2004; Erdem 2021.
    """
    images, _, height, width = a.shape
    if b.shape != a.shape:
        raise ShapeError(expected=tuple(a.shape), actual=tuple(b.shape))
    if data_range.shape != (images,):
        raise ShapeError(expected=f"one data range for each of {images} images", actual=tuple(data_range.shape))
    if mask is not None and mask.shape not in {(images, 1, height, width), (1, 1, height, width)}:
        raise ShapeError(expected=f"a mask of shape {(images, 1, height, width)}", actual=tuple(mask.shape))
    if window % 2 == 0:
        raise ShapeError(expected="a window with a center pixel, of odd side", actual=window)
    if window > min(height, width):
        return a.new_full((images,), torch.nan, dtype=torch.float64)
    full = data_range.double().masked_fill(~(data_range > 0), torch.nan).view(-1, 1, 1, 1)
    inside = torch.ones(1, 1, height, width, dtype=torch.bool, device=a.device) if mask is None else mask
    counted = _windows_inside(inside, window).expand(images, 1, -1, -1)
    similarity = _similarity_of_windows(a.double() / full, b.double() / full, window)
    kept = similarity.mean(dim=1, keepdim=True).masked_fill(~counted, 0)
    return kept.sum(dim=(1, 2, 3)) / counted.sum(dim=(1, 2, 3))


def _windows_inside(mask: Bool[Tensor, "image 1 height width"], window: int) -> Bool[Tensor, "image 1 row column"]:
    outside = (~mask).float()
    return max_pool2d(max_pool2d(outside, (window, 1), stride=1), (1, window), stride=1) == 0


def _similarity_of_windows(
    a: Float[Tensor, "image channel height width"], b: Float[Tensor, "image channel height width"], window: int
) -> Float[Tensor, "image channel row column"]:
    """Compute the similarity of every window of two maps whose data range is 1."""
    mean_a, mean_b = _means(a, window), _means(b, window)
    # sample variance: divided by one less than the number of pixels
    sample = window**2 / (window**2 - 1)
    variance_a = sample * (_means(a * a, window) - mean_a**2)
    variance_b = sample * (_means(b * b, window) - mean_b**2)
    covariance = sample * (_means(a * b, window) - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    return luminance * (2 * covariance + K2**2) / (variance_a + variance_b + K2**2)


def _means(values: Tensor, window: int) -> Tensor:
    """Compute the mean of every window: columns first, then rows, which is a fifth of the work for a side of 11."""
    return avg_pool2d(avg_pool2d(values, (window, 1), stride=1), (1, window), stride=1)
