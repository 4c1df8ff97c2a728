"""Methods made of plain gradients: gradient, input times gradient, integrated gradients, SmoothGrad."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from auditcore.contracts.explainers import Gradient, InputXGradient, IntegratedGradients, SmoothGrad
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.differentiation import input_gradient

UNDEFINED_BELOW = 1e-8
"""A relative error has no meaning when what it is relative to is this close to zero."""

_BLUR_PX = 31
_BLUR_SIGMA_PX = 5.0


def gradient(batch: Batch, _contract: Gradient) -> Attribution:
    """Gradient of the target logit with respect to the normalized input, signed.

    Source: Simonyan et al. 2014, without their absolute value and maximum over channels.
    """
    return Attribution(_gradients(batch))


def input_x_gradient(batch: Batch, _contract: InputXGradient) -> Attribution:
    """Normalized input times gradient.

    Source: Shrikumar et al. 2016.
    """
    return Attribution(batch.inputs * _gradients(batch))


def integrated_gradients(batch: Batch, contract: IntegratedGradients) -> Attribution:
    """Difference to a baseline, times the mean gradient along the straight path from it.

    The mean is a Gauss-Legendre quadrature, as in captum. Steps of all images share micro-batches.

    Returns:
        Maps and `completeness_error`: |sum of the map - (f(x) - f(baseline))| / |f(x) - f(baseline)|.

    Source: Sundararajan et al. 2017, Eq. 1.
    """
    classifier = batch.classifier
    inputs = batch.inputs
    baselines = classifier.normalize(baseline_pixels(batch, contract.baseline))
    differences = inputs - baselines
    alphas, weights = quadrature(contract.steps)
    # float64 sums: the result must not depend on how steps fall into micro-batches
    sums = torch.zeros_like(inputs, dtype=torch.float64)
    for images, steps in _pairs(len(batch), contract.steps, batch.micro_batch, inputs.device):
        at = alphas.to(inputs)[steps].view(-1, 1, 1, 1)
        points = baselines[images] + at * differences[images]
        gradients, _ = input_gradient(classifier.module, points, batch.targets[images])
        scaled = gradients.double() * weights.to(sums)[steps].view(-1, 1, 1, 1)
        sums.index_add_(0, images, scaled)
    maps = (differences.double() * sums).float()
    change = (_scores(batch, inputs) - _scores(batch, baselines)).double()
    error = (maps.double().sum((1, 2, 3)) - change).abs() / change.abs()
    error[change.abs() < UNDEFINED_BELOW] = torch.nan
    return Attribution(maps, {"completeness_error": error.float()})


def smoothgrad(batch: Batch, contract: SmoothGrad) -> Attribution:
    """Mean gradient over copies of the input with Gaussian noise.

    The noise's standard deviation is a share of the value range of the normalized input, channel by channel; each
    sample of each image has its own stream.

    Source: Smilkov et al. 2017.
    """
    classifier = batch.classifier
    inputs = batch.inputs
    scale = contract.std * (classifier.high - classifier.low)
    shape = tuple(inputs.shape[1:])
    sums = torch.zeros_like(inputs, dtype=torch.float64)
    for images, samples in _pairs(len(batch), contract.samples, batch.micro_batch, inputs.device):
        noise = torch.cat(
            [
                batch.streams.take([image]).normal(shape, "smoothgrad", sample)
                for image, sample in zip(images.tolist(), samples.tolist(), strict=True)
            ]
        )
        points = inputs[images] + scale * noise.to(inputs)
        gradients, _ = input_gradient(classifier.module, points, batch.targets[images])
        sums.index_add_(0, images, gradients.double())
    return Attribution((sums / contract.samples).float())


def quadrature(steps: int) -> tuple[Float[Tensor, " step"], Float[Tensor, " step"]]:
    """Nodes in (0,1) and weights of the Gauss-Legendre rule, float64; the weights sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy((1 + nodes) / 2), torch.from_numpy(weights / 2)


def baseline_pixels(batch: Batch, color: str) -> Float[Tensor, "image 3 height width"]:
    """What integrated gradients start from, in pixel space: black, the model's mean color, or the blurred image."""
    match color:
        case "black":
            return torch.zeros_like(batch.pixels)
        case "mean":
            return batch.classifier.mean.expand_as(batch.pixels)
        case _:
            # reflection needs more than half a kernel of image; 31 pixels for all that are no toys
            kernel = min(_BLUR_PX, 2 * min(batch.pixels.shape[2:]) - 1)
            blurred: Tensor = gaussian_blur(batch.pixels, [kernel, kernel], [_BLUR_SIGMA_PX, _BLUR_SIGMA_PX])
            return blurred


def _gradients(batch: Batch) -> Float[Tensor, "image 3 height width"]:
    parts = [input_gradient(part.classifier.module, part.inputs, part.targets)[0] for part in batch.parts()]
    return torch.cat(parts) if parts else torch.empty_like(batch.pixels)


def _scores(batch: Batch, inputs: Float[Tensor, "image 3 height width"]) -> Float[Tensor, " image"]:
    """Target logits, without a graph."""
    with torch.inference_mode():
        logits = torch.cat([batch.classifier.module(part) for part in inputs.split(batch.micro_batch)])
    return logits.gather(1, batch.targets[:, None])[:, 0]


def _pairs(images: int, repeats: int, micro_batch: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Every (image, repeat), in micro-batches that may span images."""
    for start in range(0, images * repeats, micro_batch):
        pair = torch.arange(start, min(start + micro_batch, images * repeats), device=device)
        yield pair // repeats, pair % repeats
