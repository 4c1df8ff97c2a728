"""Randomization: maps of the trained model against maps of the same model with random layers.

Source: Adebayo et al. 2018, cascading randomization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement, not_applicable
from auditcore.contracts.checks import RandomizationCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.shards import Measurement
from auditcore.errors import ExplainerFailing, ModelOutputInvalid, NotApplicable
from auditcore.explainers.attribution import Batch, MadePasses
from auditcore.explainers.registry import applicability, explain_together
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.rank_correlation import spearman
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.similarity import pearson
from auditcore.metrics.structural_similarity import structural_similarity
from auditcore.models.randomization import cascade

CONSTANT_ORIGINAL = "the map of the trained model is constant or not finite"
NO_PARAMETERS = "the model has no parameters that could be random"
SSIM_WINDOW_PX = 11

Map = Float[Tensor, "image 1 height width"]


@dataclass
class _Cascade:
    """What one explainer's maps do while the model forgets.

    Attributes:
        original: Reduced maps of the trained model.
        points: Similarity after every stage; NaN where undefined.
        reasons: Why an image's point is undefined, for the first stage where it is, by position.
        last: The same, only for the last stage.
    """

    original: Map
    points: list[Float[Tensor, " image"]] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    last: dict[int, str] = field(default_factory=dict)

    def add(self, points: Float[Tensor, " image"], reason: str) -> None:
        """Append the points of a stage."""
        self.points.append(points)
        self.last = {row: reason for row, missing in enumerate(points.isnan().tolist()) if missing}
        self.reasons = self.last | self.reasons


_FAILURES = (NotApplicable, ModelOutputInvalid, ExplainerFailing)
"""How an explainer fails on a model that has forgotten too much."""


def compute(
    check: RandomizationCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]
) -> list[Measurement]:
    """Similarity of every explainer along the cascade; targets and the layer statistics of explainers stay.

    Every stage has its own view of the random streams: the random explainer draws other numbers for each, so that its
    similarity shows the level of chance.
    """
    cascades = {explainer: _Cascade(_compared(check, group.original(explainer).maps)) for explainer in group.explained}
    shares = [0.0]
    stages = cascade(group.classifier, seed=group.streams.seed, stages=check.stages)
    for number, (share, classifier) in enumerate(stages, start=1):
        shares.append(share)
        forgetful = group.with_model(classifier, MadePasses())
        maps, reasons = _forgetful_maps(check, forgetful, tuple(cascades), number)
        for explainer, found in cascades.items():
            found.add(*_stage(check, found.original, maps.get(explainer), reasons.get(explainer), share))
    results: list[Measurement] = []
    for explainer, found in cascades.items():
        if found.points:
            results += _measurements(check, group, explainer, found, shares)
        else:
            results += not_applicable(check, explainer.label, NO_PARAMETERS, indices=group.indices)
    return results


def _forgetful_maps(
    check: RandomizationCheck, forgetful: ImageGroup, explainers: Sequence[Explainer], number: int
) -> tuple[dict[Explainer, Tensor], dict[Explainer, str]]:
    """Maps of one stage, and why there are none of an explainer that cannot run on it."""
    reasons = {e: reason for e in explainers if (reason := applicability(forgetful.classifier, e)) is not None}
    view, rows = f"{check.label}/stage={number}", range(len(forgetful))
    found: dict[Explainer, list[Tensor]] = {explainer: [] for explainer in explainers if explainer not in reasons}

    def work(part: slice) -> None:
        batch = forgetful.batch(forgetful.pixels[part], rows[part], view)
        for explainer, maps in _maps(batch, tuple(found), reasons).items():
            found[explainer].append(maps)

    forgetful.each(len(forgetful), work)
    _name_who_failed(forgetful, view, found, reasons)
    return {e: torch.cat(parts) for e, parts in found.items() if e not in reasons}, reasons


def _name_who_failed(
    forgetful: ImageGroup, view: str, found: Mapping[Explainer, Sequence[Tensor]], reasons: dict[Explainer, str]
) -> None:
    """Where an accelerator has met logits that are no numbers, ask each explainer by itself whether it did."""
    try:
        forgetful.classifier.guard.require_finite()
    except ModelOutputInvalid:
        rows = range(len(forgetful))
        for explainer in [each for each in found if each not in reasons]:

            def work(part: slice, explainer: Explainer = explainer) -> None:
                explain_together(forgetful.batch(forgetful.pixels[part], rows[part], view), (explainer,))
                forgetful.classifier.guard.require_finite()

            try:
                forgetful.each(len(forgetful), work)
            except _FAILURES as error:
                reasons[explainer] = error.message


def _maps(batch: Batch, explainers: Sequence[Explainer], reasons: dict[Explainer, str]) -> dict[Explainer, Tensor]:
    """Maps of a micro-batch; explainers that fail on a model that has forgotten too much are added to `reasons`."""
    able = [explainer for explainer in explainers if explainer not in reasons]
    try:
        return {explainer: found.maps for explainer, found in explain_together(batch, able).items()}
    except _FAILURES:
        # one of them failed: find out which
        maps = {}
        for explainer in able:
            try:
                maps[explainer] = explain_together(replace(batch), (explainer,))[explainer].maps
            except _FAILURES as error:
                reasons[explainer] = error.message
        return maps


def _stage(
    check: RandomizationCheck, original: Map, maps: Tensor | None, reason: str | None, share: float
) -> tuple[Float[Tensor, " image"], str]:
    """Similarity of the maps of one stage with the original ones, and why it is undefined where it is."""
    at = f"with {share:.0%} of the layers random"
    if maps is None:
        return original.new_full((len(original),), torch.nan), f"{at}: {reason}"
    return _similarity(check, original, _compared(check, maps)), f"{at}, the map is constant or not finite"


def _compared(check: RandomizationCheck, maps: Float[Tensor, "image channel height width"]) -> Map:
    """Reduced maps in float64, absolute if the check asks for that."""
    reduced = reduce_channels(maps.double(), check.reduce)
    return reduced.abs() if check.absolute else reduced


def _similarity(check: RandomizationCheck, original: Map, changed: Map) -> Float[Tensor, " image"]:
    everywhere = torch.ones_like(original, dtype=torch.bool)
    match check.similarity:
        case "spearman":
            values = spearman(original, changed)
        case "pearson":
            values = pearson(original, changed, everywhere)
        case "ssim":
            data_range = original.abs().amax(dim=(1, 2, 3))
            window = min(SSIM_WINDOW_PX, _largest_odd(min(original.shape[2:])))
            values = structural_similarity(original, changed, data_range, window=window)
        case other:
            assert_never(other)
    return values.masked_fill(_constant(original) | _constant(changed), torch.nan)


def _largest_odd(side: int) -> int:
    return side - 1 + side % 2


def _constant(maps: Map) -> Bool[Tensor, " image"]:
    return is_constant(maps.flatten(1), torch.ones_like(maps.flatten(1), dtype=torch.bool))


def _measurements(
    check: RandomizationCheck, group: ImageGroup, explainer: Explainer, found: _Cascade, shares: list[float]
) -> list[Measurement]:
    points = torch.stack(found.points, dim=1)
    constant = _constant(found.original)
    # a map is as similar to itself as can be, unless no similarity is defined for it
    start = torch.ones_like(points[:, :1]).masked_fill(constant[:, None], torch.nan)
    original = {row: CONSTANT_ORIGINAL for row, flat in enumerate(constant.tolist()) if flat}
    scores = {
        "cascade_similarity": (points.mean(dim=1), found.reasons, torch.cat((start, points), dim=1)),
        "randomized_similarity": (points[:, -1], found.last, None),
    }
    return [
        measurement(
            check,
            metric,
            values.cpu(),
            indices=group.indices,
            explainer=explainer.label,
            undefined=reasons | original,
            curve=None if curve is None else (shares, curve.cpu()),
            control=explainer in group.controls,
        )
        for metric, (values, reasons, curve) in scores.items()
    ]
