"""EDDA faithfulness: the most relevant pixels by themselves, and everything but them.

Source: Li et al. 2021, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup, Prediction
from auditcore.checks.measuring import measurement
from auditcore.checks.removal import mean_color, pictures_of
from auditcore.contracts.checks import EddaCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.ranking_orders import RankingOrder, ordered_maps, ranked_variant
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
    threshold_masks,
)
from auditcore.metrics.reduction import ranking_relevance
from auditcore.metrics.rounded_relevance import resolved_relevance

CONSTANT_MAP = "the map is constant or not finite, so no pixels are the most relevant"


class _Masks(NamedTuple):
    """Which pixels stay in the two images of one sub-case.

    Attributes:
        variant: Such as `top_15` or `tau_0.5`.
        umask: The most relevant pixels.
        imask: What remains without them.
        measured: Whether the share of kept pixels depends on the map, and is reported.
    """

    variant: str
    umask: Bool[Tensor, "image 1 height width"]
    imask: Bool[Tensor, "image 1 height width"]
    measured: bool


def compute(check: EddaCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """All metrics of an EDDA check on one group, with the random explainer as a control that always runs."""
    passed: list[tuple[Explainer, RankingOrder, list[_Masks], list[Prediction], Tensor]] = []
    # all passes before the first result is read, so that a card does not wait for the host in between
    for explainer, order in ordered_maps(check.rank_by, group.explained):
        maps = ranking_relevance(group.original(explainer).maps, order, check.reduce)
        constant = is_constant(maps.flatten(1), torch.ones_like(maps.flatten(1), dtype=torch.bool))
        cases = _masks(check, group, maps)
        predictions = _predict(check, group, [mask for case in cases for mask in (case.umask, case.imask)])
        passed.append((explainer, order, cases, predictions, constant))

    found: list[Measurement] = []
    for explainer, order, cases, predictions, constant in passed:
        for case, alone, without in zip(cases, predictions[::2], predictions[1::2], strict=True):
            found += _case_metrics(check, group, explainer, order, case, alone, without, constant)
    return found


def _masks(check: EddaCheck, group: ImageGroup, maps: Float[Tensor, "image height width"]) -> list[_Masks]:
    """The masks of every share and every threshold, in the order of `check.variants`."""
    masks: list[tuple[Tensor, Tensor]] = []
    if check.keep:
        ties = group.streams.uniform(tuple(maps.shape[1:]), "edda/ties", device=maps.device)
        resolved = resolved_relevance(maps.flatten(1)).view_as(maps)
        masks += [(most, ~most) for most in keep_masks(resolved, check.keep, ties)]
    masks += threshold_masks(maps, check.thresholds)
    return [
        _Masks(variant, umask, imask, measured=number >= len(check.keep))
        for number, (variant, (umask, imask)) in enumerate(zip(check.variants, masks, strict=True))
    ]


def _case_metrics(
    check: EddaCheck,
    group: ImageGroup,
    explainer: Explainer,
    order: RankingOrder,
    case: _Masks,
    alone: Prediction,
    without: Prediction,
    constant: Bool[Tensor, " image"],
) -> list[Measurement]:
    whole = group.probabilities
    scores = {
        "sufficiency": sufficiency(whole, alone.probability),
        "comprehensiveness": comprehensiveness(whole, without.probability),
        "drop_percent": drop_percent(whole, alone.probability, check.min_probability),
        "increase_percent": increase_percent(whole, alone.probability, check.min_probability),
        "umask_agreement": agreement(alone.predicted),
        "imask_flip": flip(without.predicted),
    }
    if case.measured:
        scores["kept_share"] = case.umask.flatten(1).double().mean(dim=1)
    # read from the device at once
    read = torch.where(constant, torch.nan, torch.stack([values.double() for values in scores.values()])).cpu()
    improbable = (
        f"the target probability is below {check.min_probability:g} (`min_probability`), so a relative change says "
        "nothing"
    )
    reasons = {i: CONSTANT_MAP if bool(flat) else improbable for i, flat in enumerate(constant.tolist())}
    return [
        measurement(
            check,
            metric,
            values,
            indices=group.indices,
            explainer=explainer.label,
            variant=ranked_variant(check.rank_by, order, case.variant),
            ranked_by=order,
            undefined=reasons,
            control=explainer in group.controls,
        )
        for metric, values in zip(scores, read, strict=True)
    ]


def _predict(
    check: EddaCheck, group: ImageGroup, masks: Sequence[Bool[Tensor, "image 1 height width"]]
) -> list[Prediction]:
    """What the model says of the images with all pixels masked but those that a mask keeps, one answer a mask."""
    kept = torch.stack(list(masks), dim=1)
    device, (images, count) = group.pixels.device, kept.shape[:2]
    fill = mean_color(group) if check.color == "mean" else torch.zeros_like(group.pixels[:1]).expand_as(group.pixels)
    probability = torch.empty(images, count, device=device)
    predicted = torch.empty(images, count, dtype=torch.bool, device=device)
    # images first, so that a micro-batch mixes few images
    owners = [image for image in range(images) for _ in range(count)]
    owner = torch.arange(images, device=device).repeat_interleave(count)
    number = torch.arange(count, device=device).repeat(images)

    def work(part: slice) -> None:
        own, mask = owner[part], number[part]
        masked = torch.where(kept[own, mask], group.pixels[own], pictures_of(fill, own))
        probability[own, mask], predicted[own, mask] = group.read(group.batch(masked, owners[part], "original"))

    group.each(len(owner), work)
    return [Prediction(*told) for told in zip(probability.unbind(1), predicted.unbind(1), strict=True)]
