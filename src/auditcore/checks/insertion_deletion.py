"""Insertion and deletion games: pixels appear on an empty or blurred image, or vanish into it.

Source: Petsiuk et al. 2018; with both fills for both games, and with accuracy beside probability, Li et al. 2021,
appendix C.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup, Prediction
from auditcore.checks.measuring import measurement
from auditcore.checks.removal import (
    CONSTANT_MAP,
    PixelRanking,
    RemovalCurves,
    blurred,
    fill_prediction,
    mean_color,
    pixel_ranking,
    removal_curve,
)
from auditcore.contracts.checks import Game, InsertionDeletionCheck, accuracy_metric
from auditcore.contracts.ranking_orders import ordered_maps, ranked_variant
from auditcore.contracts.shards import Measurement
from auditcore.metrics.removal_curves import insertion_deletion_auc

BLUR_KERNEL_PX, BLUR_SIGMA_PX = 11, 5.0
"""The authors' kernel; it is cut off at 1.1 sigma and leaves more of the image than a full Gaussian would."""


STEPS_UNKNOWN = (
    "the curve is adaptive: steps are chosen by the target probability, and whether the target is predicted is unknown "
    "at the others; set `curve` to exact"
)


class _Picture(NamedTuple):
    """Where a game begins or ends: the originals, or images without information."""

    pixels: Float[Tensor, "image channel height width"]
    told: Prediction


def compute(
    check: InsertionDeletionCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]
) -> list[Measurement]:
    """Areas under the curves of the games, with the random explainer as a control that always runs.

    Both ends of every curve are known: the original, and the filled image, which is passed once for all explainers
    and both games. Accuracy is read from the passes of the probability.
    """
    height, width = group.pixels.shape[-2:]
    counts = check.replaced(height, width)
    x = [count / (height * width) for count in counts]
    original = _Picture(group.pixels, Prediction(group.probabilities, group.predicted))
    fills = _fills(check, group)

    found: list[Measurement] = []
    for explainer, order in ordered_maps(check.rank_by, group.explained):
        ranking = pixel_ranking(check, group, explainer, order)
        for game in check.games:
            curves = _play(check, game, group, original, fills[_fill_name(game)], ranking, counts)
            values = curves.values.masked_fill(ranking.constant[:, None], torch.nan)
            found.append(
                measurement(
                    check,
                    game,
                    insertion_deletion_auc(values).cpu(),
                    indices=group.indices,
                    explainer=explainer.label,
                    variant=ranked_variant(check.rank_by, order),
                    ranked_by=order,
                    undefined=CONSTANT_MAP,
                    curve=(x, values.cpu()),
                    control=explainer in group.controls,
                    error=None if curves.errors is None else curves.errors.stated(ranking.constant),
                )
            )
            known = curves.errors is None
            steps = curves.predicted.to(values.dtype).masked_fill(
                ranking.constant[:, None] if known else torch.ones_like(curves.predicted), torch.nan
            )
            reasons = {
                row: CONSTANT_MAP if constant else STEPS_UNKNOWN
                for row, constant in enumerate(ranking.constant.tolist())
            }
            found.append(
                measurement(
                    check,
                    accuracy_metric(game),
                    insertion_deletion_auc(steps).cpu(),
                    indices=group.indices,
                    explainer=explainer.label,
                    variant=ranked_variant(check.rank_by, order),
                    ranked_by=order,
                    undefined=reasons,
                    curve=(x, steps.cpu()) if known else None,
                    control=explainer in group.controls,
                )
            )
    return found


def _fill_name(game: Game) -> str:
    return game.rsplit("_", 1)[1]


def _fills(check: InsertionDeletionCheck, group: ImageGroup) -> dict[str, _Picture]:
    """The fills that the games need."""
    fills = {}
    names = {_fill_name(game) for game in check.games}
    if "zero" in names:
        color = mean_color(group)
        fills["zero"] = _Picture(color, fill_prediction(group, color, "mean"))
    if "black" in names:
        black = torch.zeros_like(group.pixels)
        fills["black"] = _Picture(black, fill_prediction(group, black, "black"))
    if "blur" in names:
        picture = blurred(group.pixels, BLUR_KERNEL_PX, BLUR_SIGMA_PX)
        fills["blur"] = _Picture(picture, fill_prediction(group, picture, None))
    return fills


def _play(
    check: InsertionDeletionCheck,
    game: Game,
    group: ImageGroup,
    original: _Picture,
    fill: _Picture,
    ranking: PixelRanking,
    counts: tuple[int, ...],
) -> RemovalCurves:
    """What the model says along one game, most relevant pixels first, both ends included."""
    start, end = (fill, original) if game.startswith("insertion") else (original, fill)
    curves = removal_curve(
        group,
        start.pixels,
        end.pixels,
        ranking.rank,
        counts,
        start.told.probability,
        end.told.probability,
        tolerance=check.area_tolerance,
    )
    curves.predicted[:, 0], curves.predicted[:, -1] = start.told.predicted, end.told.predicted
    return curves
