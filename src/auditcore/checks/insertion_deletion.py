"""Insertion and deletion games: pixels appear on an empty or blurred image, or vanish into it.

Source: Petsiuk et al. 2018; with both fills for both games Li et al. 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.chunk import Chunk
from auditcore.checks.measuring import measurement
from auditcore.checks.removal import (
    CONSTANT_MAP,
    PixelRanking,
    blurred,
    fill_probability,
    mean_color,
    pixel_ranking,
    removal_curve,
)
from auditcore.checks.step_curves import StepCurves, tolerance_of
from auditcore.contracts.checks import Game, InsertionDeletionCheck
from auditcore.contracts.passes import GAME_STEP_PX
from auditcore.contracts.shards import Measurement
from auditcore.metrics.removal_curves import insertion_deletion_auc, proportional_step, removal_counts

BLUR_KERNEL_PX, BLUR_SIGMA_PX = 11, 5.0
"""The authors' kernel; it is cut off at 1.1 sigma and leaves more of the image than a full Gaussian would."""


class _Fill(NamedTuple):
    """An image without information, and the target probability that the model gives it."""

    pixels: Float[Tensor, "image 3 height width"]
    probability: Float[Tensor, " image"]


def compute(check: InsertionDeletionCheck, chunk: Chunk, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """Areas under the curves of the games, with the random explainer as a control that always runs.

    Both ends of every curve are known: the original, and the filled image, which is passed once for all explainers
    and both games.
    """
    height, width = chunk.pixels.shape[-2:]
    step_px = check.pixels_per_step or proportional_step(GAME_STEP_PX, height, width)
    counts = removal_counts(height * width, step_px)
    x = [count / (height * width) for count in counts]
    fills = _fills(check, chunk)

    found: list[Measurement] = []
    for explainer in chunk.explained:
        ranking = pixel_ranking(check, chunk, explainer)
        for game in check.games:
            curve, errors = _play(check, game, chunk, fills[_fill_name(game)], ranking, counts)
            found.append(
                measurement(
                    check,
                    game,
                    insertion_deletion_auc(curve).cpu(),
                    indices=chunk.indices,
                    explainer=explainer.label,
                    undefined=CONSTANT_MAP,
                    curve=(x, curve.cpu()),
                    control=explainer in chunk.controls,
                    error=None if errors is None else errors.stated(ranking.constant),
                )
            )
    return found


def _fill_name(game: Game) -> str:
    return "zero" if game.endswith("_zero") else "blur"


def _fills(check: InsertionDeletionCheck, chunk: Chunk) -> dict[str, _Fill]:
    """The fills that the games need."""
    fills = {}
    names = {_fill_name(game) for game in check.games}
    if "zero" in names:
        color = mean_color(chunk)
        fills["zero"] = _Fill(color, fill_probability(chunk, color, "mean"))
    if "blur" in names:
        picture = blurred(chunk.pixels, BLUR_KERNEL_PX, BLUR_SIGMA_PX)
        fills["blur"] = _Fill(picture, fill_probability(chunk, picture, None))
    return fills


def _play(
    check: InsertionDeletionCheck,
    game: Game,
    chunk: Chunk,
    fill: _Fill,
    ranking: PixelRanking,
    counts: tuple[int, ...],
) -> StepCurves:
    """Target probability along one game, most relevant pixels first; NaN for maps without an order."""
    original = _Fill(chunk.pixels, chunk.probabilities)
    start, end = (fill, original) if game.startswith("insertion") else (original, fill)
    curves = removal_curve(
        chunk,
        start.pixels,
        end.pixels,
        ranking.rank,
        counts,
        start.probability,
        end.probability,
        tolerance=tolerance_of(check),
    )
    return curves._replace(values=curves.values.masked_fill(ranking.constant[:, None], torch.nan))
