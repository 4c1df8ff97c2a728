"""Trainings and passes of measures that retrain, as closed formulas; the ledger of a model counts the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from auditcore.contracts.explainers import Explainer
from auditcore.contracts.explainers.pass_sharing import colors_read, map_passes
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import LOGITS, NOTHING, Passes, total
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan
from auditcore.contracts.retraining.idsds import IdsdsPlan
from auditcore.contracts.retraining.roar import RoarPlan
from auditcore.counts.cells import grid_of


def roar_trainings(plan: RoarPlan) -> int:
    """Number of trainings if all explainers run on the model; the repeats are alike, so one is counted."""
    return plan.repeats * len(plan.model_copy(update={"repeats": 1}).cells(plan.explained))


def roar_map_passes(plan: RoarPlan, explained: Sequence[Explainer], *, images: int, shape: InputShape) -> Passes:
    """Passes of the maps of all repeats.

    Args:
        plan: The plan.
        explained: Explainers that run on the model, the control among them.
        images: Training and validation images together.
        shape: Channels, height and width of the model's input.
    """
    if not any(0 < share < 1 for share in plan.shares):
        return NOTHING
    return _map_passes(explained, targets_known=plan.target == "label", images=images, shape=shape).times(plan.repeats)


def f_fidelity_passes(plan: FFidelityPlan, explained: Sequence[Explainer], *, images: int, shape: InputShape) -> Passes:
    """Passes of F-Fidelity on a fine-tuned model; arguments as for `roar_map_passes`."""
    orders = sum(len(plan.orders(one)) for one in explained)
    copies = LOGITS.times(images * orders * len(plan.sizes) * 2 * plan.samples)
    return explaining_passes(explained, images=images, shape=shape).plus(copies)


def idsds_passes(plan: IdsdsPlan, explained: Sequence[Explainer], *, images: int, shape: InputShape) -> Passes:
    """Passes of IDSDS on a fine-tuned model; all explainers share the copies. Arguments as for `roar_map_passes`."""
    copies = LOGITS.times(images * grid_of(plan.grid, shape.height, shape.width).cells)
    return explaining_passes(explained, images=images, shape=shape).plus(copies)


def explaining_passes(explained: Sequence[Explainer], *, images: int, shape: InputShape) -> Passes:
    """The predictions and the maps of all images. Arguments as for `roar_map_passes`."""
    return LOGITS.times(images).plus(_map_passes(explained, targets_known=True, images=images, shape=shape))


def _map_passes(explained: Iterable[Explainer], *, targets_known: bool, images: int, shape: InputShape) -> Passes:
    """The maps of one explainer after the other, none of which knows the passes of another."""
    asked = NOTHING if targets_known else LOGITS.times(images)
    return total(
        map_passes((one,), shape=shape)
        .times(images)
        .plus(LOGITS.times(len(colors_read((one,), original=False))))
        .plus(asked)
        for one in explained
    )
