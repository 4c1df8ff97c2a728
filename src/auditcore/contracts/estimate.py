"""What a plan will cost, before any model is loaded: waves and passes an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from auditcore.contracts.checks import (
    Check,
    CheckContract,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    SsimSweepCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import (
    DeepLift,
    ExplainerContract,
    GradientShap,
    GuidedGradCam,
    Iba,
    IntegratedGradients,
    KernelShap,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    NoiseTunnel,
    Occlusion,
    Random,
    Rise,
    SmoothGrad,
)
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Wave

AUTO_INTERVAL_STEPS = 10
"""Half-widths that an automatic interval tries: tenths of the family's bound."""

BACKWARD_COST = 1.3
"""A backward pass in forward passes; 1.0 to 1.4 on the demo model and resnet50, two cores."""

GRADIENT_PASSES = 1 + BACKWARD_COST
"""A forward and a backward pass, in forward passes."""

DEFAULT_GRID = 14
"""Cells a side for images of at least 128 pixels."""

TYPICAL_SIDE_PX = 224
TYPICAL_PIXELS = TYPICAL_SIDE_PX**2
"""Pixels of an image, where steps are given in pixels; the size is known only with the model."""

FLIPPING_STEP_PX, GAME_STEP_PX = 512, 224
"""Pixels a step at that size, of pixel flipping and of insertion and deletion, where a plan gives none."""

TYPICAL_LAYERS = 100
"""Stages of a randomization without a number, one a layer with parameters: 99 in the demo model, 107 in resnet50."""


def waves_of(plan: AuditPlan) -> tuple[Wave, ...]:
    """The waves an audit needs: `compute`, and before it `measure` if something is a matter of all images.

    That is an automatic interval, the data range of SSIM, or the statistics of a layer.
    """
    automatic = any(
        family.interval == "auto" for check in plan.checks if isinstance(check, SweepCheck) for family in check.families
    )
    layer_statistics = any(isinstance(explainer, Iba) for explainer in plan.explainers)
    needed = automatic or layer_statistics or measures_maps(plan)
    return ("measure", "compute") if needed else ("compute",)


def measures_maps(plan: AuditPlan) -> bool:
    """Whether the first wave needs the maps of all originals, for the data range of SSIM."""
    return any(isinstance(check, SsimSweepCheck) for check in plan.checks)


def passes_of(plan: AuditPlan, *, wave: Wave | None = None) -> int:
    """Expected cost of one image, in forward passes; of one wave or of the whole audit."""
    if wave is None:
        return sum(passes_of(plan, wave=each) for each in waves_of(plan))
    if wave == "measure":
        layers = sum(isinstance(explainer, Iba) for explainer in plan.explainers)
        measured = [explainer for explainer in plan.explainers if not isinstance(explainer, Iba)]
        maps = sum(explanation_passes(explainer) for explainer in measured) if measures_maps(plan) else 0
        return round(1 + layers + maps + sum(_measure_passes(check) for check in plan.checks))
    maps = sum(explanation_passes(explainer) for explainer in plan.explainers)
    # given labels are counted as one: how many an image has is known only with the images
    targets = plan.top_n if plan.target == "top" else 1
    return round(
        1
        + targets * (maps + sum(CHECK_PASSES[type(check)](check, maps, len(plan.explainers)) for check in plan.checks))
    )


def explanation_passes(explainer: ExplainerContract) -> float:
    """Cost of one map, in forward passes; one forward and one backward pass where `MAP_PASSES` says nothing else."""
    passes = MAP_PASSES.get(type(explainer))
    return GRADIENT_PASSES if passes is None else passes(explainer)


def _windows(explainer: Occlusion) -> int:
    """Windows over an image of typical size; as many as `occlusion.windows` has there."""
    window = explainer.window or TYPICAL_SIDE_PX // 7
    stride = explainer.stride or max(1, window // 2)
    return (max(0, -(-(TYPICAL_SIDE_PX - window) // stride)) + 1) ** 2


def _coalitions(explainer: KernelShap) -> int:
    """Coalitions of as many segments as wanted."""
    count = math.isqrt(explainer.count) ** 2 if explainer.segments == "cells" else explainer.count
    return min(explainer.samples, (1 << count) - 2)


MAP_PASSES: Mapping[type[ExplainerContract], Callable[[Any], float]] = {
    Random: lambda _: 0,
    IntegratedGradients: lambda explainer: explainer.steps * GRADIENT_PASSES + 2,
    GradientShap: lambda explainer: explainer.samples * GRADIENT_PASSES,
    SmoothGrad: lambda explainer: explainer.samples * GRADIENT_PASSES,
    NoiseTunnel: lambda explainer: explainer.samples * explanation_passes(explainer.method),
    DeepLift: lambda _: 1 + GRADIENT_PASSES,
    GuidedGradCam: lambda _: 2 * GRADIENT_PASSES,
    LrpEpsilonPlusFlat: lambda _: 4,
    LrpEpsilonGammaBox: lambda _: 4,
    LrpEpsilonAlpha2Beta1Flat: lambda _: 6,
    Iba: lambda explainer: 1 + explainer.steps * explainer.samples * GRADIENT_PASSES,
    Occlusion: lambda explainer: 1 + _windows(explainer),
    Rise: lambda explainer: explainer.masks,
    KernelShap: lambda explainer: 2 + _coalitions(explainer),
}
"""Cost of one map in forward passes.

The relevance methods were measured with tests/benchmarks/relevance.py, one thread: 3.2, 3.7 and 5.1 forward passes on
resnet50, 4.6, 4.4 and 6.5 on the demo model, in the order of the table.
"""


def _measure_passes(check: Check) -> int:
    if not isinstance(check, SweepCheck):
        return 0
    automatic = [family for family in check.families if family.interval == "auto"]
    # a family that ends at its identity is tried on one side alone
    sides = sum(end != family.identity for family in automatic for end in family.extent)
    return AUTO_INTERVAL_STEPS * sides


def _sweep_copies(check: SweepCheck) -> int:
    """Changed copies of an image: one a level, or one an end where only the ends of an interval exist."""
    return sum(
        sum(end != family.identity for end in family.extent) if family.only_ends else check.levels
        for family in check.families
    )


def _flips(check: PixelFlippingCheck) -> int:
    return math.ceil(check.share * TYPICAL_PIXELS / (check.pixels_per_step or FLIPPING_STEP_PX))


def _game_steps(check: InsertionDeletionCheck) -> int:
    return math.ceil(TYPICAL_PIXELS / (check.pixels_per_step or GAME_STEP_PX)) - 1


def _deletions(check: DeletionCheck) -> int:
    return (check.grid or DEFAULT_GRID) ** 2 - 1


CHECK_PASSES: Mapping[type[CheckContract], Callable[[Any, float, int], float]] = {
    SweepCheck: lambda check, maps, _: _sweep_copies(check) * (1 + maps),
    SsimSweepCheck: lambda check, maps, _: sum(len(change.values) for change in check.changes) * (1 + maps),
    DeletionCheck: lambda check, _, explainers: 1 + _deletions(check) * (2 * explainers + check.repeats),
    EddaCheck: lambda check, _, explainers: 2 * len(check.keep) * (explainers + 1),
    PixelFlippingCheck: lambda check, _, explainers: _flips(check) * (explainers + 1),
    InsertionDeletionCheck: lambda check, _, explainers: 2 + len(check.games) * _game_steps(check) * (explainers + 1),
    RoadCheck: lambda check, _, explainers: 2 * len(check.shares) * (explainers + 1),
    SensitivityCheck: lambda check, maps, _: check.draws * maps,
    InfidelityCheck: lambda check, _, __: 1 + check.draws,
    LocalizationCheck: lambda _, __, ___: 0,
    RandomizationCheck: lambda check, maps, _: (check.stages or TYPICAL_LAYERS) * maps,
    ComplexityCheck: lambda _, __, ___: 0,
}
"""Cost of a check in forward passes an image, given the cost of one map by every explainer and their number."""
