"""Baselines: the images with which a method compares an image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from auditcore.contracts.explainers.baselines import Baseline
from auditcore.explainers.attribution import Batch

_BLUR_PX = 31
_BLUR_SIGMA_PX = 5.0

_NOISE_STD = 0.5
"""Of the gaussian baseline, in pixel space: the middle of the values that Sturmfels et al. 2020 show."""


def baseline_pixels(batch: Batch, baseline: Baseline) -> Float[Tensor, "image channel height width"]:
    """One baseline per image, in pixel space; see `contracts.explainers.baselines.BASELINES`.

    Noise comes from the image's own stream. Only `normal` leaves [0,1]: it is standard normal after normalization.

    Args:
        batch: The images and their streams.
        baseline: Which baseline.

    Source: Sturmfels et al. 2020 (blur, gaussian, uniform, maximum distance).
    """
    pixels, classifier = batch.pixels, batch.classifier
    shape = tuple(pixels.shape[1:])
    chosen: Tensor
    match baseline:
        case "black":
            chosen = torch.zeros_like(pixels)
        case "mean":
            chosen = classifier.mean.expand_as(pixels)
        case "blur":
            # reflection needs an image larger than half a kernel; only images below 16 pixels get a smaller one
            kernel = min(_BLUR_PX, 2 * min(pixels.shape[2:]) - 1)
            chosen = gaussian_blur(pixels, [kernel, kernel], [_BLUR_SIGMA_PX, _BLUR_SIGMA_PX])
        case "gaussian":
            noise = batch.streams.normal(shape, "baseline/gaussian", device=pixels.device)
            chosen = (pixels + _NOISE_STD * noise).clamp(0, 1)
        case "uniform":
            chosen = batch.streams.uniform(shape, "baseline/uniform", device=pixels.device)
        case "normal":
            noise = batch.streams.normal(shape, "baseline/normal", device=pixels.device)
            chosen = classifier.mean + classifier.std * noise
        case "maximum_distance":
            chosen = (pixels < 0.5).to(pixels)  # noqa: PLR2004 - the middle of the range
    return chosen
