"""The stages of measures that retrain."""

from __future__ import annotations

from typing import Final

from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan
from auditcore.contracts.retraining.idsds import IdsdsPlan
from auditcore.contracts.retraining.roar import RoarPlan

PRICE: Final = "price"
FINE_TUNE: Final = "fine_tune"
PATCHES: Final = "patches"
MAKE_REPORT: Final = "report"

LEAST: Final = 0.1
"""Weight of a stage that has next to nothing to do."""

PASSES_OF_EPOCH: Final = 10
"""Passes of a fine-tuning in an epoch for each image that is measured: an image forward and back takes 2.3 passes, and
where a fifth of the images is held out and measured, four are trained on for each of them."""

PASSES_OF_MAP: Final = 4
"""Passes of a map, roughly; most explainers take 2 to 50."""


def roar_stages(plan: RoarPlan) -> tuple[Stage, ...]:
    """The price, the trainings without any map of each repeat, then those by the maps of an explainer in a repeat.

    Weights count trainings.
    """
    whole = {0.0} if plan.explained_model == "trained" else set()
    whole |= {
        share if one == "roar" else 1 - share for one in plan.measures for share in plan.shares if share in {0, 1}
    }
    by_maps = len(plan.measures) * sum(0 < share < 1 for share in plan.shares)
    return (
        Stage(name=PRICE, wave=0, weight=LEAST, title="measuring the speed"),
        *(
            Stage(
                name=untouched_stage(repeat),
                wave=1,
                weight=max(LEAST, len(whole)),
                title=f"repeat {repeat}: training on whole images",
            )
            for repeat in range(plan.repeats)
        ),
        *(
            Stage(
                name=retrain_stage(repeat, explainer.label),
                wave=2,
                weight=max(LEAST, by_maps * len(plan.orders(explainer))),
                title=f"repeat {repeat}: trainings by the maps of {explainer.label}",
            )
            for repeat in range(plan.repeats)
            for explainer in plan.explained
        ),
        Stage(name=MAKE_REPORT, wave=3, weight=LEAST, title="making the report"),
    )


def fine_tuned_stages(plan: FFidelityPlan | IdsdsPlan) -> tuple[Stage, ...]:
    """The fine-tuning, which is priced first, then the values of each explainer; IDSDS deletes the patches in between.

    Weights count epochs.
    """
    epochs = LEAST if plan.training is None else float(plan.training.epochs)
    patches: tuple[Stage, ...] = ()
    copies = 0
    if isinstance(plan, IdsdsPlan):
        weight = plan.grid**2 / PASSES_OF_EPOCH
        patches = (Stage(name=PATCHES, wave=1, weight=weight, title="deleting each patch"),)
    else:
        copies = 2 * len(plan.sizes) * plan.samples
    wave = 1 + len(patches)
    return (
        Stage(name=FINE_TUNE, wave=0, weight=epochs, title="fine-tuning"),
        *patches,
        *(
            Stage(
                name=measure_stage(explainer.label),
                wave=wave,
                weight=(PASSES_OF_MAP + len(plan.orders(explainer)) * copies) / PASSES_OF_EPOCH,
                title=f"measuring {explainer.label}",
            )
            for explainer in plan.explained
        ),
        Stage(name=MAKE_REPORT, wave=wave + 1, weight=LEAST, title="making the report"),
    )


def untouched_stage(repeat: int) -> str:
    """Name of the stage that trains on whole images in a repeat."""
    return f"untouched-{repeat}"


def retrain_stage(repeat: int, explainer: str) -> str:
    """Name of the stage that trains by the maps of an explainer in a repeat."""
    return f"retrain/{repeat}/{explainer}"


def measure_stage(explainer: str) -> str:
    """Name of the stage that measures an explainer on the fine-tuned model."""
    return f"measure/{explainer}"
