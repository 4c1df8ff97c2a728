"""Which audits are timed: every check with the gradient, every explainer under a sweep, and all together."""

from __future__ import annotations

from dataclasses import dataclass

from auditcore.contracts.augmentations import Augmentation, Brightness, Rotate
from auditcore.contracts.checks import (
    Check,
    DeletionCheck,
    EddaCheck,
    InsertionDeletionCheck,
    PixelFlippingCheck,
    SensitivityCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import (
    Explainer,
    GradCam,
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    IntegratedGradients,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    Saliency,
)
from auditcore.contracts.plan import AuditPlan
from benchmarks.ideal import Meaning

AUGMENTATIONS: tuple[Augmentation, ...] = (Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20)))
SWEEP = SweepCheck(augmentations=AUGMENTATIONS, levels=11)
SHORT_SWEEP = SweepCheck(augmentations=AUGMENTATIONS, levels=3)
"""For methods of which one map costs many passes."""

DELETION = DeletionCheck(grid=7, repeats=1)
FLIPPING = PixelFlippingCheck(pixels_per_step=512)
SENSITIVITY = SensitivityCheck(draws=10)
GAMES = InsertionDeletionCheck(pixels_per_step=224 * 14)
"""Steps as coarse as the authors' notebook has them for many images (224 * 8), and coarser: 16 instead of 224."""


@dataclass(frozen=True)
class Case:
    """One row of the benchmark.

    Attributes:
        check: Name of the check, or of all checks of a combined plan.
        explainer: Name of the explainer, or of all.
        plan: What runs.
        settings: The plan's size in words.
        meaning: What an ideal pass of the explainer is.
    """

    check: str
    explainer: str
    plan: AuditPlan
    settings: str
    meaning: Meaning = "plain"


def cases() -> tuple[Case, ...]:
    """All rows, cheap methods first."""
    sweep, short = "2 augmentations x 11 levels", "2 augmentations x 3 levels"
    shared = (Gradient(), Saliency(), InputXGradient(), GradCam())
    return (
        _single(SWEEP, Gradient(), sweep),
        _single(DELETION, Gradient(), "7 x 7 cells, 1 random order"),
        _single(EddaCheck(), Gradient(), "3 shares"),
        _single(FLIPPING, Gradient(), "20 steps of 512 pixels"),
        _single(SENSITIVITY, Gradient(), "10 draws"),
        _single(GAMES, Gradient(), "4 games, 16 steps"),
        _single(SWEEP, InputXGradient(), sweep),
        _single(SHORT_SWEEP, IntegratedGradients(steps=10), f"{short}, 10 steps"),
        _single(SWEEP, GradCam(), sweep, "forward"),
        _single(SWEEP, GuidedBackpropagation(), sweep, "gradient"),
        _single(SHORT_SWEEP, LrpEpsilonPlusFlat(), short, "gradient"),
        _single(SHORT_SWEEP, LrpEpsilonGammaBox(), short, "gradient"),
        _single(SHORT_SWEEP, LrpEpsilonAlpha2Beta1Flat(), short, "gradient"),
        Case(
            "sweep+edda+pixel_flipping+sensitivity",
            "+".join(explainer.label for explainer in shared),
            AuditPlan(explainers=shared, checks=(SHORT_SWEEP, EddaCheck(), FLIPPING, SENSITIVITY)),
            f"sweep {short}, the others as above",
        ),
    )


def _single(check: Check, explainer: Explainer, settings: str, meaning: Meaning = "plain") -> Case:
    plan = AuditPlan(explainers=(explainer,), checks=(check,))
    return Case(check.label, explainer.label, plan, settings, meaning)
