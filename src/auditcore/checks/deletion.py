"""Deletion: least relevant cells first, most relevant first, and at random.

Source: Won et al. 2025 (inter-model deletion); Bluecher et al. 2024 (symmetric relevance gain).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.checks.removal import blurred, fill_prediction, mean_color, pictures_of
from auditcore.checks.step_curves import StepCurves, added, averaged, step_curves
from auditcore.contracts.checks import DeletionCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.ranking_orders import RankingOrder, ordered_maps, orders_of, ranked_variant
from auditcore.contracts.shards import Measurement
from auditcore.counts.cells import Grid
from auditcore.errors import InvalidRequest
from auditcore.images.cells import cell_index
from auditcore.metrics.cells import cell_relevance, deletion_step
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.curves import deletion_auc, inter_model_deletion, rao_auc, symmetric_relevance_gain
from auditcore.metrics.ranking import rank_descending
from auditcore.metrics.reduction import ranking_relevance
from auditcore.metrics.rounded_relevance import resolved_relevance

BLUR_KERNEL_PX, BLUR_SIGMA_PX = 31, 5.0
"""Wide enough that the kernel's tail is below 1 % at its edge (3 sigma)."""

CONSTANT_MAP = "all cells are equally relevant or the map is not finite, so the map gives no order"


def fill_image(check: DeletionCheck, group: ImageGroup) -> Float[Tensor, "image channel height width"]:
    """What deleted pixels become, in pixel space, from the original image."""
    match check.fill:
        case "mean":
            return mean_color(group)
        case "black":
            return torch.zeros_like(group.pixels)
        case "blur":
            return blurred(group.pixels, BLUR_KERNEL_PX, BLUR_SIGMA_PX)


def compute(check: DeletionCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """All metrics of a deletion check on one group.

    The curves' first points are the probabilities of the originals; their last points, where everything is
    deleted, are the same for every order and computed once.
    """
    height, width = group.pixels.shape[-2:]
    grid = check.cells_of(height, width)
    if grid.rows > height or grid.columns > width:
        msg = (
            f"a grid of {grid.rows} x {grid.columns} cells does not fit images of {height} x {width} pixels; use at "
            f"most {min(height, width)} along the shorter side"
        )
        raise InvalidRequest(msg, field="plan.checks.grid")
    fill = fill_image(check, group)
    emptied = fill_prediction(group, fill, None if check.fill == "blur" else check.fill).probability
    at_random = [_curve(check, group, fill, emptied, order, grid) for order in _random_orders(check, group, grid)]
    random_curves = torch.stack([curve.values for curve in at_random], dim=1)
    rao, rao_errors = rao_auc(random_curves), averaged([curve.errors for curve in at_random])
    x = [step / grid.cells for step in range(grid.cells + 1)]

    passed: list[tuple[Explainer, RankingOrder, StepCurves, StepCurves, Tensor]] = []
    # all passes before the first result is read, so that a card does not wait for the host in between
    for explainer, order in ordered_maps(check.rank_by, group.able):
        cells, constant = _relevance_order(check, group, explainer, order, grid)
        least_first = _curve(check, group, fill, emptied, cells.flip(1), grid)
        passed.append((explainer, order, least_first, _curve(check, group, fill, emptied, cells, grid), constant))

    found: list[Measurement] = []
    for explainer, order, least_first, most_first, constant in passed:
        lerf, morf = (curve.values.masked_fill(constant[:, None], torch.nan) for curve in (least_first, most_first))
        scores = {
            "lerf_auc": (deletion_auc(lerf), least_first.errors),
            "morf_auc": (deletion_auc(morf), most_first.errors),
            "rao_auc": (rao, rao_errors),
            "inter_model_deletion": (inter_model_deletion(lerf, random_curves), added(least_first.errors, rao_errors)),
            "srg": (symmetric_relevance_gain(lerf, morf), added(least_first.errors, most_first.errors)),
        }
        curve_of = {"lerf_auc": lerf, "morf_auc": morf, "rao_auc": random_curves.mean(dim=1)}
        for metric, (values, errors) in scores.items():
            ordered = check.metrics[metric].of_order
            if not ordered and order != orders_of(check.rank_by, explainer)[0]:
                continue
            curve = curve_of.get(metric)
            found.append(
                measurement(
                    check,
                    metric,
                    values.cpu(),
                    indices=group.indices,
                    explainer=explainer.label,
                    variant=ranked_variant(check.rank_by, order) if ordered else None,
                    ranked_by=order if ordered else None,
                    undefined=CONSTANT_MAP,
                    curve=None if curve is None else (x, curve.cpu()),
                    error=None if errors is None else errors.stated(values.isnan()),
                )
            )
    return found


def _relevance_order(
    check: DeletionCheck, group: ImageGroup, explainer: Explainer, order: RankingOrder, grid: Grid
) -> tuple[Int[Tensor, "image cell"], Bool[Tensor, " image"]]:
    """Cells from most to least relevant, and which images have a map that gives no order."""
    relevance = cell_relevance(ranking_relevance(group.original(explainer).maps, order, check.reduce), grid)
    ties = group.streams.uniform((grid.cells,), "deletion/ties", device=relevance.device)
    flat = is_constant(relevance, torch.ones_like(relevance, dtype=torch.bool))
    return rank_descending(resolved_relevance(relevance), ties), flat


def _random_orders(check: DeletionCheck, group: ImageGroup, grid: Grid) -> list[Int[Tensor, "image cell"]]:
    """Orders that belong to (seed, image, repeat): shared by every explainer and every model."""
    return [
        group.streams.uniform((grid.cells,), "deletion/random_order", repeat).argsort(dim=1).to(group.pixels.device)
        for repeat in range(check.repeats)
    ]


def _curve(
    check: DeletionCheck,
    group: ImageGroup,
    fill: Float[Tensor, "image channel height width"],
    emptied: Float[Tensor, " image"],
    order: Int[Tensor, "image cell"],
    grid: Grid,
) -> StepCurves:
    """Target probability after 0..G deletions in the order given."""
    device = group.pixels.device
    height, width = group.pixels.shape[-2:]
    step_of_pixel = deletion_step(order, cell_index(height, width, grid, device))

    def predict(own: Int[Tensor, " copy"], step: Int[Tensor, " copy"]) -> Float[Tensor, " copy"]:
        deleted = (step_of_pixel[own] <= step[:, None, None])[:, None]
        copies = torch.where(deleted, pictures_of(fill, own), group.pixels[own])
        return group.classifier.target_probability(copies, group.targets[own])

    return step_curves(
        group, group.probabilities, emptied, steps=grid.cells, predict=predict, tolerance=check.area_tolerance
    )
