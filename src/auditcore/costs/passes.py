"""The passes through the model that a plan needs, as a closed formula; the ledger of an audit shows the same numbers.

Counted are images that go forward through the model, and images for which a gradient comes back.

    audit   = measure wave, if the plan has one, + compute wave
    measure = images (prediction) + rows * (ends of automatic intervals) + images * (layers to be measured)
              + maps of the originals, if SSIM needs their range
    compute = images (prediction) + rows * (maps of the originals + each check) + colors
              + rows * (one more map by each stochastic explainer, for its repeatability)

A row is an image and one target. What is shared is counted once:

- Gradient, saliency, input times gradient and Grad-CAM read one pass there and back of the plain model, the logits of
  that pass are the point of the probability curve, and for the originals it is the prediction itself, unless an image
  has several targets. Guided Grad-CAM and guided backpropagation share the guided pass.
- A check that reports two orders of pixels or cells (`rank_by: both`) passes the copies of each; what no order
  changes is passed once.
- All explainers of a check see the same copies; curves begin at the prediction and end at the filled image; random
  orders are passed once for all explainers; images of one color (black, mean) once for a whole shard.

Where curves are adaptive, the number is an expectation: their steps depend on what the model says. The sample that an
audit in faster modes measures again exactly comes on top.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from auditcore.contracts.augmentations import Interval
from auditcore.contracts.capabilities import (
    WHITE_BOX,
    ModelCapabilities,
    check_incompatibility,
    explainer_incompatibility,
    pair_incompatibility,
)
from auditcore.contracts.checks import CheckCase, CheckContract
from auditcore.contracts.explainers import (
    Ablation,
    Deconvolution,
    DeepLift,
    Explainer,
    ExplainerContract,
    GradCam,
    Gradient,
    GradientShap,
    GuidedBackpropagation,
    GuidedGradCam,
    Iba,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    NoiseTunnel,
    Occlusion,
    Precomputed,
    Random,
    Rise,
    Saliency,
    SmoothGrad,
)
from auditcore.contracts.image_colors import IMAGE_COLORS, ImageColor, is_image_color
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, NOTHING, RELEVANCE, Passes, total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Wave
from auditcore.counts.cells import default_grid
from auditcore.counts.removal_steps import PAPERS_PIXELS

TYPICAL_SIDE_PX = math.isqrt(PAPERS_PIXELS)
"""Side of an image where the model, and with it the size, is not known yet."""

TYPICAL_LAYERS = 100
"""Stages of a randomization without a number, one a layer with parameters: 99 in the demo model, 107 in resnet50."""


@dataclass(frozen=True)
class ModelFacts:
    """What the number of passes depends on besides the plan; the defaults serve before a model is known.

    Attributes:
        side_px: Side of the model's square input.
        layers: Layers with parameters, which a randomization without a number of stages randomizes one by one.
        unable: Names of explainers that cannot be right on the model.
        capabilities: What the model lets an audit see.
        unavailable: Names of augmentations that cannot be applied where the audit runs.
        intervals: What automatic intervals came to, by `interval_key`.
        one_target: Whether no image can have more than one target.
    """

    side_px: int = TYPICAL_SIDE_PX
    layers: int = TYPICAL_LAYERS
    unable: frozenset[str] = frozenset()
    capabilities: ModelCapabilities = WHITE_BOX
    unavailable: frozenset[str] = frozenset()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    one_target: bool = True


def passes_needed(
    plan: AuditPlan,
    *,
    wave: Wave,
    images: int,
    rows: int | None = None,
    facts: ModelFacts | None = None,
    accepted: Mapping[str, int] | None = None,
    groups: int = 1,
) -> dict[str, Passes]:
    """Passes of one wave by purpose.

    Args:
        plan: The plan in full.
        wave: Which wave.
        images: Images that can be decoded and are predicted.
        rows: Images and targets that are explained; as many as images if None.
        facts: Of the model; see there for what is assumed without.
        accepted: Name of an `ssim_sweep` -> copies whose prediction stayed, of which maps are compared; all if None.
        groups: In how many groups the images are audited; each makes the random models of a randomization anew.

    Returns:
        `measure`; or `originals`, which are predictions, original maps and the images of one color that these need,
        `repeatability` if some explainer is stochastic, and each check by name. An image of one color counts where it
        is needed first.
    """
    facts = facts or ModelFacts()
    rows = images if rows is None else rows
    able = [
        explainer
        for explainer in plan.explainers
        if explainer.label not in facts.unable and explainer_incompatibility(explainer, facts.capabilities) is None
    ]
    if wave == "measure":
        return {"measure": _measured(plan, able, images, rows, facts)}
    needed = {
        "originals": _originals(able, images, rows, facts).plus(LOGITS.times(len(_map_colors(able)))),
    }
    repeated = [explainer for explainer in able if explainer.stochastic and not isinstance(explainer, Random)]
    if repeated:
        # the logits of the originals are known, and no stochastic explainer reads the plain pass; as for a changed
        # copy, nobody asks what methods report about themselves
        original = False
        again = total(OWN_PASSES[type(explainer)](explainer, original, facts.side_px) for explainer in repeated)
        needed["repeatability"] = again.times(rows)
    colored = _map_colors(able)
    for check in plan.checks:
        if check_incompatibility(check, facts.capabilities) is not None:
            needed[check.label] = NOTHING
            continue
        new_colors = check.colors - colored
        colored |= new_colors
        own = [explainer for explainer in able if pair_incompatibility(check, explainer) is None]
        case = _case(check, own, facts, groups=groups, accepted=(accepted or {}).get(check.label))
        needed[check.label] = check.passes(case, rows).plus(LOGITS.times(len(new_colors)))
    return needed


def map_passes(
    explainers: Iterable[ExplainerContract],
    *,
    original: bool = False,
    reads_logits: bool = False,
    side_px: int = TYPICAL_SIDE_PX,
) -> Passes:
    """Passes of the maps of one image by several explainers together.

    Args:
        explainers: Which.
        original: Whether the image is an original: its logits are known, and what methods report about themselves is
            read.
        reads_logits: Whether somebody else reads the logits, such as a probability curve.
        side_px: Side of the model's square input.
    """
    listed = list(explainers)
    plain = any(isinstance(explainer, READ_PLAIN_PASS) for explainer in listed)
    guided = any(isinstance(explainer, (GuidedBackpropagation, GuidedGradCam)) for explainer in listed)
    logits = reads_logits or any(isinstance(explainer, (Occlusion, Ablation, KernelShap)) for explainer in listed)
    own = total(OWN_PASSES[type(explainer)](explainer, original, side_px) for explainer in listed)
    shared = [GRADIENT if plain else NOTHING, GRADIENT if guided else NOTHING]
    if logits and not plain and not original:
        shared.append(LOGITS)
    return total([own, *shared])


READ_PLAIN_PASS = (Gradient, Saliency, InputXGradient, GradCam, GuidedGradCam)
"""Explainers made of one pass there and back through the plain model, which they share."""


def _windows(explainer: Occlusion, side_px: int) -> int:
    """Windows over an image; as many as `occlusion.windows` has."""
    window = explainer.window or max(1, side_px // 7)
    stride = explainer.stride or max(1, window // 2)
    return (max(0, -(-(side_px - window) // stride)) + 1) ** 2


def _coalitions(explainer: KernelShap) -> int:
    """Coalitions of as many segments as wanted: all of them, or pairs as often as affordable."""
    count = math.isqrt(explainer.count) ** 2 if explainer.segments == "cells" else explainer.count
    every = (1 << count) - 2
    return every if every <= explainer.samples else explainer.samples // 2 * 2


def _own_baseline(explainer: IntegratedGradients | KernelShap) -> Passes:
    """Every image's own baseline; that of one color is passed once for all."""
    return NOTHING if explainer.baseline in IMAGE_COLORS else LOGITS


OWN_PASSES: Mapping[type[ExplainerContract], Callable[[Any, bool, int], Passes]] = {
    Gradient: lambda _, __, ___: NOTHING,
    Saliency: lambda _, __, ___: NOTHING,
    InputXGradient: lambda _, __, ___: NOTHING,
    GradCam: lambda _, __, ___: NOTHING,
    GuidedBackpropagation: lambda _, __, ___: NOTHING,
    GuidedGradCam: lambda _, __, ___: NOTHING,
    Random: lambda _, __, ___: NOTHING,
    Precomputed: lambda _, __, ___: NOTHING,
    # completeness is reported of originals alone
    IntegratedGradients: lambda e, original, _: GRADIENT.times(e.steps).plus(_own_baseline(e) if original else NOTHING),
    GradientShap: lambda e, _, __: GRADIENT.times(e.samples),
    SmoothGrad: lambda e, _, __: GRADIENT.times(e.samples),
    NoiseTunnel: lambda e, _, side_px: map_passes((e.method,), side_px=side_px).times(e.samples),
    DeepLift: lambda _, __, ___: LOGITS.plus(GRADIENT),
    Deconvolution: lambda _, __, ___: GRADIENT,
    LrpEpsilonPlusFlat: lambda _, __, ___: RELEVANCE,
    LrpEpsilonGammaBox: lambda _, __, ___: RELEVANCE,
    LrpEpsilonAlpha2Beta1Flat: lambda _, __, ___: RELEVANCE,
    # for an original it is optimized twice more, with the statistics of either half of the images
    Iba: lambda e, original, _: LOGITS.plus(GRADIENT.times(e.steps * e.samples * (3 if original else 1))),
    Occlusion: lambda e, _, side_px: LOGITS.times(_windows(e, side_px)),
    Ablation: lambda e, _, side_px: LOGITS.times((e.grid or default_grid(side_px, side_px)) ** 2),
    Rise: lambda e, _, __: LOGITS.times(e.masks),
    KernelShap: lambda e, _, __: LOGITS.times(_coalitions(e)).plus(_own_baseline(e)),
}
"""Passes of one map that an explainer shares with no other, given whether the image is an original, and its side."""


def map_comparisons(plan: AuditPlan, facts: ModelFacts) -> int:
    """Pairs of maps that the checks of a plan compare per image and target; work that is no pass of the model."""
    able = [
        explainer for explainer in plan.explainers if explainer_incompatibility(explainer, facts.capabilities) is None
    ]
    return sum(check.map_comparisons(_case(check, able, facts)) for check in plan.checks)


def _case(
    check: CheckContract, able: Sequence[Explainer], facts: ModelFacts, *, groups: int = 1, accepted: int | None = None
) -> CheckCase:
    """What the price of a check depends on.

    Args:
        check: The check.
        able: Explainers of the plan that can run on the model and that the check can say something of.
        facts: Of the model.
        groups: In how many groups the images are audited.
        accepted: Copies that the check accepts; all of them if None.
    """
    own = [explainer for explainer in able if check.runs_on(explainer.label)]
    controls = [] if any(isinstance(explainer, Random) for explainer in own) else [Random()]
    explained = (*own, *controls)
    return CheckCase(
        able=own,
        explained=explained,
        mapped_first=tuple(explainer for explainer in explained if not isinstance(explainer, Iba)),
        map_colors=frozenset(_map_colors([explainer for explainer in own if isinstance(explainer, KernelShap)])),
        side_px=facts.side_px,
        layers=facts.layers,
        unavailable=facts.unavailable,
        intervals=facts.intervals,
        groups=groups,
        accepted=accepted,
        map_passes=partial(map_passes, side_px=facts.side_px),
    )


def mapped_first(plan: AuditPlan) -> tuple[Explainer, ...]:
    """Explainers whose maps of all originals the first wave needs, for checks that measure them.

    A method that itself needs the first wave has no maps in it.
    """
    measuring = [check for check in plan.checks if check.measures_maps]
    return tuple(
        explainer
        for explainer in plan.explainers
        if not isinstance(explainer, Iba) and any(check.runs_on(explainer.label) for check in measuring)
    )


def _measured(plan: AuditPlan, able: list[Any], images: int, rows: int, facts: ModelFacts) -> Passes:
    layers = LOGITS.times(images * sum(isinstance(explainer, Iba) for explainer in able))
    needed = mapped_first(plan)
    mapped = [explainer for explainer in able if explainer in needed]
    colors = LOGITS.times(len(_map_colors(mapped)))
    own = total(check.measure_passes(_case(check, able, facts), rows) for check in plan.checks)
    return total([_originals(mapped, images, rows, facts), layers, colors, own])


def _originals(able: list[Any], images: int, rows: int, facts: ModelFacts) -> Passes:
    """Predictions and maps of the originals; with one target an image, the prediction is the plain pass forward."""
    maps = map_passes(able, original=True, side_px=facts.side_px).times(rows)
    if facts.one_target and any(isinstance(explainer, READ_PLAIN_PASS) for explainer in able):
        return maps.plus(GRADIENT.times(images)).plus(GRADIENT.times(-rows))
    return maps.plus(LOGITS.times(images))


def _map_colors(explainers: Iterable[Any]) -> set[ImageColor]:
    return {
        explainer.baseline
        for explainer in explainers
        if isinstance(explainer, (IntegratedGradients, KernelShap)) and is_image_color(explainer.baseline)
    }
