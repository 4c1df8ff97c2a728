"""EDDA faithfulness: the most relevant pixels alone, and everything but them.

Source: Li et al. 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    keep_mask,
    sufficiency,
)
from auditcore.metrics.reduction import reduce_channels

CONSTANT_MAP = "the map is constant or not finite, so no pixels are the most relevant"
VANISHED_PROBABILITY = "the target probability is below 1e-8, so a relative change is undefined"


def compute(check: EddaCheck, chunk: Chunk, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """All metrics of an EDDA check on one chunk, with the random explainer as a control that always runs."""
    found: list[Measurement] = []
    for explainer in chunk.explained:
        maps = reduce_channels(chunk.original(explainer).maps, check.reduce)[:, 0]
        constant = is_constant(maps.flatten(1), torch.ones_like(maps.flatten(1), dtype=torch.bool))
        ties = chunk.streams.uniform(tuple(maps.shape[1:]), "edda/ties").to(maps.device)
        for share in check.keep:
            kept = keep_mask(maps, share, ties)
            found += _share_metrics(check, chunk, explainer, share, kept, constant, control=explainer in chunk.controls)
    return found


def _share_metrics(
    check: EddaCheck,
    chunk: Chunk,
    explainer: Explainer,
    share: float,
    kept: Bool[Tensor, "image 1 height width"],
    constant: Bool[Tensor, " image"],
    *,
    control: bool,
) -> list[Measurement]:
    alone, still_alone = _predict(chunk, kept)
    without, still_without = _predict(chunk, ~kept)
    whole = chunk.probabilities
    scores = {
        "sufficiency": sufficiency(whole, alone),
        "comprehensiveness": comprehensiveness(whole, without),
        "drop_percent": drop_percent(whole, alone),
        "increase_percent": increase_percent(whole, alone),
        "umask_agreement": agreement(still_alone),
        "imask_flip": flip(still_without),
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
            control=control,
        )
        for metric, values in scores.items()
    ]


def _predict(
    chunk: Chunk, kept: Bool[Tensor, "image 1 height width"]
) -> tuple[Float[Tensor, " image"], Bool[Tensor, " image"]]:
    """Target probability with all other pixels black, and whether the target is still predicted."""
    parts = [chunk.classifier.logits(chunk.pixels[part] * kept[part]) for part in chunk.micro_batches(len(chunk))]
    logits = torch.cat(parts)
    probability = chunk.classifier.probabilities(logits).gather(1, chunk.targets[:, None])[:, 0]
    return probability, chunk.classifier.predicts(logits, chunk.targets)
