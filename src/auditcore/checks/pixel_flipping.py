"""Pixel flipping: the most relevant pixels are removed first, which should destroy the prediction soon.

Source: Bach et al. 2015; Tetkova & Hansen 2023.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.checks.removal import CONSTANT_MAP, mean_color, pixel_ranking, removal_curve
from auditcore.contracts.checks import PixelFlippingCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.ranking_orders import RankingOrder, ordered_maps, ranked_variant
from auditcore.contracts.shards import Measurement
from auditcore.metrics.removal_curves import pixel_flipping_aoc, relative_curve

VANISHED_PROBABILITY = "the target probability is below 1e-8, so a relative curve is undefined"


def compute(
    check: PixelFlippingCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]
) -> list[Measurement]:
    """Area over the curve of every explainer, with the random explainer as a control that always runs."""
    height, width = group.pixels.shape[-2:]
    counts = check.removed(height, width)
    x = [count / (height * width) for count in counts]
    fill = _fill(check, group)

    passed: list[tuple[Explainer, RankingOrder, Tensor, Tensor]] = []
    # all passes before the first result is read, so that a card does not wait for the host in between
    for explainer, order in ordered_maps(check.rank_by, group.explained):
        rank, constant = pixel_ranking(check, group, explainer, order)
        curve = removal_curve(group, group.pixels, fill, rank, counts, group.probabilities).values
        passed.append((explainer, order, curve.masked_fill(constant[:, None], torch.nan), constant))

    found: list[Measurement] = []
    for explainer, order, curve, constant in passed:
        relative = relative_curve(curve, group.probabilities)
        reasons = {i: CONSTANT_MAP if flat else VANISHED_PROBABILITY for i, flat in enumerate(constant.tolist())}
        found.append(
            measurement(
                check,
                "pixel_flipping_aoc",
                pixel_flipping_aoc(relative, counts).cpu(),
                indices=group.indices,
                explainer=explainer.label,
                variant=ranked_variant(check.rank_by, order),
                ranked_by=order,
                undefined=reasons,
                curve=(x, relative.cpu()),
                control=explainer in group.controls,
            )
        )
    return found


def _fill(check: PixelFlippingCheck, group: ImageGroup) -> Float[Tensor, "image channel height width"]:
    """What removed pixels become, in pixel space: one color for all images, never one of the changed image."""
    match check.fill:
        case "black":
            return torch.zeros_like(group.pixels[:1]).expand_as(group.pixels)
        case "mean":
            return mean_color(group)
