"""From passes to a price, at a speed that is assumed or was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.pass_counts import Passes
from auditcore.costs.cost_model import Basis, Estimate
from auditcore.costs.estimate import weight
from auditcore.costs.image_size import assumed_passes_per_s


def assumed_estimate(passes: Passes, reference: ModelReference, *, images: int, passes_per_s: float) -> Estimate:
    """The price of some passes of a model.

    Args:
        passes: How many.
        reference: The model.
        images: Number of different images.
        passes_per_s: Forward passes per second, assumed of a model that sees images of 224 x 224 pixels.
    """
    return _estimate(passes, assumed_passes_per_s(passes_per_s, reference), images=images, basis="assumed", device=None)


def measured_estimate(passes: Passes, *, images: int, passes_per_s: float, device: str) -> Estimate:
    """The price of some passes of a model whose speed a worker has measured.

    Args:
        passes: How many.
        images: Number of different images.
        passes_per_s: Its forward passes per second.
        device: Where they were measured.
    """
    return _estimate(passes, passes_per_s, images=images, basis="measured", device=device)


def _estimate(passes: Passes, rate: float, *, images: int, basis: Basis, device: str | None) -> Estimate:
    work = weight(passes)
    return Estimate(
        images=images,
        forward_images=passes.forward,
        backward_images=passes.backward,
        passes=round(work),
        seconds=round(work / rate, 2),
        passes_per_s=round(rate, 3),
        basis=basis,
        device=device,
    )


def sum_estimates(parts: Sequence[Estimate], *, images: int) -> Estimate:
    """The price of all parts together.

    Args:
        parts: Prices at assumed speeds, at least one.
        images: Number of different images.
    """
    passes = sum(part.passes for part in parts)
    # not their rounded seconds, which are 0 where there is little work
    seconds = math.fsum(part.passes / part.passes_per_s for part in parts)
    return Estimate(
        images=images,
        forward_images=sum(part.forward_images for part in parts),
        backward_images=sum(part.backward_images for part in parts),
        passes=passes,
        seconds=round(seconds, 2),
        passes_per_s=round(passes / seconds, 3) if seconds else parts[0].passes_per_s,
        basis="assumed",
    )
