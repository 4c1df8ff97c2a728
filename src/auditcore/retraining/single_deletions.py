"""IDSDS of each image: what each patch takes away when it is deleted, against what the map says of it."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.idsds import IdsdsPlan
from auditcore.counts.cells import Grid, grid_of
from auditcore.errors import InvalidRequest
from auditcore.images.cells import cell_index
from auditcore.metrics.remove_and_retrain import without_pixels
from auditcore.metrics.single_deletion import patch_sums
from auditcore.retraining.fine_tuned_model import FineTuned
from auditcore.retraining.pixel_ranks import IMAGES_AT_ONCE, each_relevance
from auditcore.retraining.training_faults import blaming_explainer


def patches(plan: IdsdsPlan, height: int, width: int) -> Grid:
    """The patches of an image.

    Raises:
        InvalidRequest: There are more of them along the shorter side than pixels.
    """
    if plan.grid > min(height, width):
        msg = (
            f"{plan.grid} patches do not fit along {min(height, width)} pixels; set `grid` to at most "
            f"{min(height, width)}"
        )
        raise InvalidRequest(msg, field="plan.grid")
    return grid_of(plan.grid, height, width)


def output_of(tuned: FineTuned, plan: IdsdsPlan, logits: Tensor, targets: Tensor) -> Float[Tensor, " image"]:
    """The logit or the probability of each image's target."""
    scores = logits if plan.output == "logit" else tuned.measured.probabilities(logits)
    return scores.gather(1, targets[:, None])[:, 0]


def without_each_patch(tuned: FineTuned, plan: IdsdsPlan, tick: Callable[[], None]) -> Float[Tensor, "image patch"]:
    """The score of each image's target without each patch; one pass per patch, for all explainers.

    Args:
        tuned: Model and images.
        plan: The plan.
        tick: Called after each batch; may raise AuditCancelled.
    """
    _, height, width = tuned.measured.shape
    grid = patches(plan, height, width)
    cells = cell_index(height, width, grid).flatten()
    images, device = len(tuned.images), tuned.measured.device
    found = torch.empty(images * grid.cells)

    def work(part: slice) -> None:
        copies = torch.arange(len(found))[part]
        own, patch = copies // grid.cells, copies % grid.cells
        pixels = tuned.images.pixels(own.tolist()).to(device)
        changed = without_pixels(pixels, (cells == patch[:, None]).to(device), tuned.measured.mean)
        found[part] = output_of(tuned, plan, tuned.measured.logits(changed), tuned.targets[own].to(device)).cpu()

    MicroBatches(IMAGES_AT_ONCE).each(len(found), work, tick=tick)
    return found.view(images, grid.cells)


def relevance_of_patches(
    tuned: FineTuned,
    plan: IdsdsPlan,
    explainer: Explainer,
    *,
    colors: MutableMapping[str, Tensor],
    tick: Callable[[], None],
) -> dict[RankingOrder, Float[Tensor, "image patch"]]:
    """The sums of one explainer's maps over the patches of each image, in each order.

    Args:
        tuned: Model and images.
        plan: The plan.
        explainer: It runs on the model.
        colors: As in `each_relevance`.
        tick: Called after each batch; may raise AuditCancelled.
    """
    _, height, width = tuned.measured.shape
    grid = patches(plan, height, width)
    orders = plan.orders(explainer)
    found = {order: torch.empty(len(tuned.images), grid.cells, dtype=torch.float64) for order in orders}

    def add(order: RankingOrder, part: slice, relevance: Tensor) -> None:
        found[order][part] = patch_sums(relevance, grid)

    with blaming_explainer(explainer):
        each_relevance(
            tuned.explained,
            explainer,
            tuned.images,
            tuned.targets,
            add,
            orders=orders,
            reduce=plan.reduce,
            seed=plan.seed,
            tick=tick,
            colors=colors,
        )
    return found
