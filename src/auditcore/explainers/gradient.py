"""Methods made of plain gradients: gradient, saliency, input times gradient, integrated gradients."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.explainers import Gradient, InputXGradient, IntegratedGradients, Saliency
from auditcore.devices.transfer import to_device
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.passes import baseline_logits, pairs, target_logits
from auditcore.explainers.shared_pass import input_gradients

UNDEFINED_BELOW = 1e-8
"""A relative error has no meaning where its denominator is below this."""


def gradient(batch: Batch, _contract: Gradient) -> Attribution:
    """Gradient of the target logit with respect to the normalized input, signed.

    Source: Simonyan et al. 2014, without their absolute value and maximum over channels.
    """
    return Attribution(input_gradients(batch))


def saliency(batch: Batch, contract: Saliency) -> Attribution:
    """Absolute gradient.

    Returns:
        Maps (N,1,H,W), the largest of the channels; or (N,3,H,W), each channel's own. Never negative.

    Source: Simonyan et al. 2014, section 3.1.
    """
    maps = input_gradients(batch).abs()
    return Attribution(maps.amax(1, keepdim=True) if contract.channels == "max" else maps)


def input_x_gradient(batch: Batch, _contract: InputXGradient) -> Attribution:
    """Normalized input times gradient.

    Source: Shrikumar et al. 2016.
    """
    return Attribution(batch.inputs * input_gradients(batch))


def integrated_gradients(batch: Batch, contract: IntegratedGradients) -> Attribution:
    """Difference to a baseline, times the mean gradient along the straight path from it.

    The mean is a Gauss-Legendre quadrature, as in captum. Steps of all images share micro-batches.

    Returns:
        Maps and `completeness_error`: |sum of the map - (f(x) - f(baseline))| / |f(x) - f(baseline)|.

    Source: Sundararajan et al. 2017, Eq. 1.
    """
    classifier = batch.classifier
    inputs = batch.inputs
    nothing = baseline_pixels(batch, contract.baseline)
    baselines = classifier.normalize(nothing)
    differences = inputs - baselines
    alphas, weights = quadrature(contract.steps)
    # float64 sums: the result must not depend on how steps fall into micro-batches
    sums = torch.zeros_like(inputs, dtype=torch.float64)
    alphas, weights = to_device(alphas, inputs.device).to(inputs.dtype), to_device(weights, inputs.device)
    for images, steps in pairs(len(batch), contract.steps, batch.micro_batch, inputs.device):
        at = alphas[steps].view(-1, 1, 1, 1)
        points = baselines[images] + at * differences[images]
        gradients, _ = classifier.gradient(points, batch.targets[images])
        scaled = gradients.double() * weights[steps].view(-1, 1, 1, 1)
        sums.index_add_(0, images, scaled)
    maps = (differences.double() * sums).float()
    if not batch.diagnostics:
        return Attribution(maps)
    change = target_logits(batch) - baseline_logits(batch, contract.baseline, nothing)
    return Attribution(maps, {"completeness_error": completeness_error(maps, change)})


def quadrature(steps: int) -> tuple[Float[Tensor, " step"], Float[Tensor, " step"]]:
    """Nodes in (0,1) and weights of the Gauss-Legendre rule, float64; the weights sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy((1 + nodes) / 2), torch.from_numpy(weights / 2)


def completeness_error(
    maps: Float[Tensor, "image channel height width"], change: Float[Tensor, " image"]
) -> Float[Tensor, " image"]:
    """Difference between the sum of a map and the change that it should explain, relative to that change.

    Args:
        maps: Attributions.
        change: Target logit of the image minus that of the baseline.

    Returns:
        |sum - change| / |change|; NaN where the logit hardly changes.
    """
    change = change.double()
    error = (maps.double().sum((1, 2, 3)) - change).abs() / change.abs()
    return error.masked_fill(change.abs() < UNDEFINED_BELOW, torch.nan).float()
