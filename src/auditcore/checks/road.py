"""ROAD: remove and debias. Pixels are imputed from their neighbors, most relevant first and least relevant first.

Source: Rong et al. 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.checks.removal import CONSTANT_MAP, pixel_ranking
from auditcore.contracts.checks import RoadCheck
from auditcore.contracts.ranking_orders import ordered_maps, ranked_variant
from auditcore.contracts.shards import Measurement
from auditcore.metrics.imputation import noisy_linear_imputation
from auditcore.metrics.removal_curves import imputed_count, road_accuracy, road_gain, road_probability

ORDERS = ("morf", "lerf")
"""Most relevant first, least relevant first."""


class _Curves(NamedTuple):
    """What the model says of the imputed copies, by order and share imputed."""

    probability: Float[Tensor, "image order share"]
    predicted: Bool[Tensor, "image order share"]


def compute(check: RoadCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """Accuracy and probability in both orders, with the random explainer as a control that always runs.

    Unlike in the authors' code, least relevant first at share p imputes the p least relevant pixels, not all but the
    p most relevant: shares name what is imputed, in both orders.
    """
    found: list[Measurement] = []
    noise = _noise(check, group)
    for explainer, order in ordered_maps(check.rank_by, group.explained):
        rank, constant = pixel_ranking(check, group, explainer, order)
        curves = _impute_and_predict(check, group, rank, noise)
        morf, lerf = curves.probability.unbind(dim=1)
        scores = {
            "morf_accuracy": road_accuracy(curves.predicted[:, 0]),
            "lerf_accuracy": road_accuracy(curves.predicted[:, 1]),
            "morf_probability": road_probability(morf),
            "lerf_probability": road_probability(lerf),
            "road_gain": road_gain(lerf, morf),
        }
        points = {
            "morf_accuracy": curves.predicted[:, 0].float(),
            "lerf_accuracy": curves.predicted[:, 1].float(),
            "morf_probability": morf,
            "lerf_probability": lerf,
        }
        for metric, values in scores.items():
            curve = points.get(metric)
            found.append(
                measurement(
                    check,
                    metric,
                    values.masked_fill(constant, torch.nan).cpu(),
                    indices=group.indices,
                    explainer=explainer.label,
                    variant=ranked_variant(check.rank_by, order),
                    ranked_by=order,
                    undefined=CONSTANT_MAP,
                    curve=None
                    if curve is None
                    else (check.shares, curve.masked_fill(constant[:, None], torch.nan).cpu()),
                    control=explainer in group.controls,
                )
            )
    return found


def _noise(check: RoadCheck, group: ImageGroup) -> Float[Tensor, "image channel height width"]:
    """Noise in pixel space that has the standard deviation asked for after normalization.

    One field per image: a pixel gets the same noise whichever map, order or share imputes it, so that explainers
    are compared on the same draw.
    """
    field = group.streams.normal(tuple(group.pixels.shape[1:]), "road/noise", device=group.pixels.device)
    return check.noise * group.classifier.std * field


def _impute_and_predict(
    check: RoadCheck,
    group: ImageGroup,
    rank: Int[Tensor, "image pixel"],
    noise: Float[Tensor, "image channel height width"],
) -> _Curves:
    device, (height, width) = group.pixels.device, group.pixels.shape[-2:]
    pixels = height * width
    counts = torch.tensor([imputed_count(share, pixels) for share in check.shares], device=device)
    shape = (len(group), len(ORDERS), len(counts))
    copies = torch.arange(len(group) * len(ORDERS) * len(counts), device=device)
    owner, order, share = torch.unravel_index(copies, shape)
    probability = torch.empty(len(copies), device=device)
    predicted = torch.empty(len(copies), dtype=torch.bool, device=device)

    def work(part: slice) -> None:
        own, count = owner[part], counts[share[part], None]
        most_first = rank[own] < count
        least_first = rank[own] >= pixels - count
        missing = torch.where(order[part, None] == 0, most_first, least_first).view(-1, height, width)
        imputed = noisy_linear_imputation(group.pixels[own], missing, noise[own])
        logits, targets = group.classifier.logits(imputed), group.targets[own]
        probability[part] = group.classifier.probabilities(logits).gather(1, targets[:, None])[:, 0]
        predicted[part] = group.classifier.predicts(logits, targets)

    group.each(len(copies), work)
    return _Curves(probability.view(shape), predicted.view(shape))
