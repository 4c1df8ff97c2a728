"""EDDA faithfulness: the most relevant pixels alone, and everything but them.

Source: Li et al. 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.checks.chunk import Chunk
from auditcore.checks.measuring import measurement
from auditcore.contracts.checks import EddaCheck, top_variant
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.shards import Measurement
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.faithfulness import (
    agreement,
    comprehensiveness,
    drop_percent,
    flip,
    increase_percent,
    keep_masks,
    sufficiency,
)
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.resolution import resolved_relevance

CONSTANT_MAP = "the map is constant or not finite, so no pixels are the most relevant"
VANISHED_PROBABILITY = "the target probability is below 1e-8, so a relative change is undefined"


class _Prediction(NamedTuple):
    """What the model says of each image with some pixels black.

    Attributes:
        probability: Of the target.
        predicted: Whether the target is still predicted.
    """

    probability: Float[Tensor, " image"]
    predicted: Bool[Tensor, " image"]


def compute(check: EddaCheck, chunk: Chunk, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """All metrics of an EDDA check on one chunk, with the random explainer as a control that always runs."""
    found: list[Measurement] = []
    for explainer in chunk.explained:
        maps = reduce_channels(chunk.original(explainer).maps, check.reduce)[:, 0]
        constant = is_constant(maps.flatten(1), torch.ones_like(maps.flatten(1), dtype=torch.bool))
        ties = chunk.streams.uniform(tuple(maps.shape[1:]), "edda/ties", device=maps.device)
        resolved = resolved_relevance(maps.flatten(1)).view_as(maps)
        kept = keep_masks(resolved, check.keep, ties)
        predictions = _predict(chunk, torch.stack([mask for most in kept for mask in (most, ~most)], dim=1))
        for share, alone, without in zip(check.keep, predictions[::2], predictions[1::2], strict=True):
            found += _share_metrics(check, chunk, explainer, share, alone, without, constant)
    return found


def _share_metrics(
    check: EddaCheck,
    chunk: Chunk,
    explainer: Explainer,
    share: float,
    alone: _Prediction,
    without: _Prediction,
    constant: Bool[Tensor, " image"],
) -> list[Measurement]:
    whole = chunk.probabilities
    scores = {
        "sufficiency": sufficiency(whole, alone.probability),
        "comprehensiveness": comprehensiveness(whole, without.probability),
        "drop_percent": drop_percent(whole, alone.probability),
        "increase_percent": increase_percent(whole, alone.probability),
        "umask_agreement": agreement(alone.predicted),
        "imask_flip": flip(without.predicted),
    }
    reasons = {i: CONSTANT_MAP if bool(flat) else VANISHED_PROBABILITY for i, flat in enumerate(constant.tolist())}
    return [
        measurement(
            check,
            metric,
            torch.where(constant, torch.nan, values).cpu(),
            indices=chunk.indices,
            explainer=explainer.label,
            variant=top_variant(share),
            undefined=reasons,
            control=explainer in chunk.controls,
        )
        for metric, values in scores.items()
    ]


def _predict(chunk: Chunk, kept: Bool[Tensor, "image mask 1 height width"]) -> list[_Prediction]:
    """What the model says of the images with all pixels black but those that a mask keeps, one answer a mask."""
    device, (images, masks) = chunk.pixels.device, kept.shape[:2]
    probability = torch.empty(images, masks, device=device)
    predicted = torch.empty(images, masks, dtype=torch.bool, device=device)
    # images first, so that a micro-batch mixes few images
    owners = [image for image in range(images) for _ in range(masks)]
    owner = torch.arange(images, device=device).repeat_interleave(masks)
    number = torch.arange(masks, device=device).repeat(images)

    def work(part: slice) -> None:
        own, mask = owner[part], number[part]
        copies = chunk.batch(chunk.pixels[own] * kept[own, mask], owners[part], "original")
        probability[own, mask], predicted[own, mask] = chunk.read(copies)

    chunk.each(len(owner), work)
    return [_Prediction(*told) for told in zip(probability.unbind(1), predicted.unbind(1), strict=True)]
