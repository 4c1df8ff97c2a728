"""Methods averaged over noisy copies of the image: SmoothGrad and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from auditcore.contracts.explainers import Gradient, NoiseTunnel, SmoothGrad
from auditcore.contracts.explainers.noise import NoisyContract
from auditcore.devices.transfer import numbers_on
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.gradient import gradient
from auditcore.explainers.passes import host_pairs


def smoothgrad(batch: Batch, contract: SmoothGrad) -> Attribution:
    """Mean gradient over copies of the input with Gaussian noise.

    Source: Smilkov et al. 2017.
    """
    tunnel = NoiseTunnel(
        method=Gradient(),
        aggregate="smoothgrad",
        samples=contract.samples,
        std=contract.std,
        std_unit=contract.std_unit,
    )
    return noise_tunnel(batch, tunnel, gradient)


def noise_tunnel(batch: Batch, contract: NoiseTunnel, attribute: Callable[[Batch, Any], Attribution]) -> Attribution:
    """Mean, mean square or variance of a method's maps over copies of the input with Gaussian noise.

    All tunnels of a plan see the same noise, so that methods are compared on the same copies. What the inner method
    draws at random, it draws again for every copy. Its diagnostics describe single copies, not a mean
    or a variance; they are left out.

    Args:
        batch: The images.
        contract: Noise and aggregate. The variance is that of the samples themselves, divided by their number, as in
            captum.
        attribute: The inner method, called with `contract.method`.

    Returns:
        Maps in the shape of the inner method's.

    Source: Smilkov et al. 2017 (mean); Hooker et al. 2019 (mean square); Adebayo et al. 2018 (variance).
    """
    if not len(batch):
        return Attribution(attribute(batch, contract.method).maps)
    sums: list[Tensor] = []
    for owners, samples in host_pairs(len(batch), contract.samples, batch.micro_batch):
        copies = noisy_copies(batch, owners, samples, contract, purpose="smoothgrad")
        images = numbers_on(owners, batch.pixels.device, torch.long)
        # float64: sums must not depend on how copies fall into micro-batches, and a variance is a small difference
        maps = attribute(copies, contract.method).maps.double()
        sums = sums or [maps.new_zeros(len(batch), *maps.shape[1:]) for _ in range(2)]
        sums[0].index_add_(0, images, maps)
        sums[1].index_add_(0, images, maps.square())
    mean, mean_square = (total / contract.samples for total in sums)
    match contract.aggregate:
        case "smoothgrad":
            aggregate = mean
        case "smoothgrad_squared":
            aggregate = mean_square
        case "vargrad":
            # with equal samples, rounding may give a value below zero
            aggregate = (mean_square - mean.square()).clamp(min=0)
    return Attribution(aggregate.float())


def noisy_copies(
    batch: Batch, owners: Sequence[int], samples: Sequence[int], noise: NoisyContract, *, purpose: str
) -> Batch:
    """Copies of images with Gaussian noise, each with its own streams.

    Noise is not clipped: values beyond black and white stay, as in the papers.

    Args:
        batch: The images.
        owners: Which of them each copy shows.
        samples: Number of the copy among those of its image.
        noise: Standard deviation of the noise and its unit. A share of the value range is the same share in pixel and
            in normalized space; a deviation of normalized values is scaled by the model's deviation of each channel.
        purpose: What the noise is for; it comes from the image's stream of that purpose.

    Returns:
        The copies in pixel space. Their streams belong to the sample, for other random numbers than the noise.
    """
    shape = tuple(batch.pixels.shape[1:])
    images = numbers_on(owners, batch.pixels.device, torch.long)
    pixels, streams = batch.pixels[images], batch.streams.take(owners)
    if noise.std:
        drawn = streams.normal(shape, purpose, samples, device=pixels.device).to(pixels.dtype)
        pixels = pixels + noise.std * (drawn if noise.std_unit == "range" else drawn * batch.classifier.std)
    views = batch.streams.views or ("original",) * len(batch)
    streams = streams.viewing(
        [f"{views[image]}/{purpose}/{sample}" for image, sample in zip(owners, samples, strict=True)]
    )
    # diagnostics of single copies are not reported, so no pass is made for them
    return replace(batch, pixels=pixels, targets=batch.targets[images], streams=streams, diagnostics=False)
