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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from auditcore.contracts.augmentations import Augmentation, Interval
from auditcore.contracts.capabilities import (
    WHITE_BOX,
    ModelCapabilities,
    check_incompatibility,
    explainer_incompatibility,
    pair_incompatibility,
)
from auditcore.contracts.checks import (
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
    interval_key,
)
from auditcore.contracts.explainers import CONTROL, Explainer
from auditcore.contracts.explainers.pass_sharing import map_passes, reads_plain_pass
from auditcore.contracts.image_colors import IMAGE_COLORS
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, NOTHING, Passes, total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.ranking_orders import orders_of
from auditcore.contracts.shards import Wave
from auditcore.counts.cells import default_grid
from auditcore.counts.removal_steps import PAPERS_PIXELS, proportional_step, removal_counts

AUTO_INTERVAL_STEPS = 10
"""Half-widths that an automatic interval tries: tenths of the augmentation's bound."""

TYPICAL_SIDE_PX = math.isqrt(PAPERS_PIXELS)
"""Side of an image where the model, and with it the size, is not known yet."""

FLIPPING_STEP_PX, GAME_STEP_PX = 512, 224
"""Pixels a step at that size, of pixel flipping and of insertion and deletion, where a plan gives none."""

TYPICAL_LAYERS = 100
"""Stages of a randomization without a number, one a layer with parameters: 99 in the demo model, 107 in resnet50."""

ADAPTIVE_SAVING = 4
"""How many times fewer steps adaptive curves take at their default tolerance: 3.2 to 4.9 where it was measured."""

SAME_LEVEL = 1e-12
"""Two values of a grid that are closer than this are one."""


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
        groups: In how many groups the images were worked off; each makes the random models of a randomization anew.

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
    repeated = [explainer for explainer in able if explainer.repeatable]
    if repeated:
        # diagnostics are read of the first maps only, and the predictions are known
        again = map_passes(repeated, logits_known=True, side_px=facts.side_px)
        if facts.one_target and reads_plain_pass(repeated):
            # the prediction was the plain pass there and back
            again = again.plus(GRADIENT.times(-1))
        needed["repeatability"] = again.times(rows)
    colored = _map_colors(able)
    for check in plan.checks:
        if check_incompatibility(check, facts.capabilities) is not None:
            needed[check.label] = NOTHING
            continue
        new_colors = _check_colors(check) - colored
        colored |= new_colors
        listed = [explainer for explainer in able if check.runs_on(explainer.label)]
        own = [explainer for explainer in listed if pair_incompatibility(check, explainer) is None]
        controls = [] if any(explainer.is_control for explainer in listed) else [CONTROL]
        case = _Case(check, own, [*own, *controls], facts, groups, (accepted or {}).get(check.label))
        needed[check.label] = CHECK_PASSES[type(check)](case, rows).plus(LOGITS.times(len(new_colors)))
    return needed


@dataclass(frozen=True)
class _Case:
    """One check with all that its passes depend on."""

    check: Any
    able: list[Any]
    explained: list[Any]
    facts: ModelFacts
    groups: int
    accepted: int | None

    def map_passes(self, explainers: list[Any], *, reads_logits: bool = False) -> Passes:
        return map_passes(explainers, reads_logits=reads_logits, side_px=self.facts.side_px)

    def orders(self, explainers: list[Any]) -> int:
        """Orders of pixels or cells that the maps of these explainers give, all together."""
        return sum(len(orders_of(self.check.rank_by, explainer)) for explainer in explainers)

    @property
    def pixels(self) -> int:
        return self.facts.side_px**2

    def step_px(self, paper_px: int) -> int:
        given: int | None = self.check.pixels_per_step
        return given or proportional_step(paper_px, self.facts.side_px, self.facts.side_px)


def _sweep(case: _Case, rows: int) -> Passes:
    augmentations = [
        augmentation for augmentation in case.check.augmentations if augmentation.label not in case.facts.unavailable
    ]
    copies = sum(_changed_levels(case.check, augmentation, case.facts) for augmentation in augmentations)
    return case.map_passes(case.explained, reads_logits=True).times(rows * copies)


def _changed_levels(check: SweepCheck, augmentation: Augmentation, facts: ModelFacts) -> int:
    """Values of the grid that change something: the equidistant ones, or the ends where nothing lies between."""
    low, high = augmentation.extent
    if augmentation.interval == "auto":
        low, high = facts.intervals.get(interval_key(check, augmentation), augmentation.extent)
    count = 2 if augmentation.only_ends else check.levels
    grid = (low + (high - low) * number / (count - 1) for number in range(count))
    return sum(abs(value - augmentation.identity) > SAME_LEVEL for value in grid)


def map_comparisons(plan: AuditPlan, facts: ModelFacts) -> int:
    """Pairs of maps that the sweeps of a plan compare, for one image and target; work that is no pass of the model."""
    able = [
        explainer for explainer in plan.explainers if explainer_incompatibility(explainer, facts.capabilities) is None
    ]
    pairs = 0
    for check in plan.checks:
        if isinstance(check, SweepCheck):
            listed = [explainer for explainer in able if check.runs_on(explainer.label)]
            explained = len(listed) + (not any(explainer.is_control for explainer in listed))
            pairs += explained * sum(
                _changed_levels(check, augmentation, facts) for augmentation in check.augmentations
            )
    return pairs


def _ssim_sweep(case: _Case, rows: int) -> Passes:
    changes = [change for change in case.check.changes if change.augmentation.label not in case.facts.unavailable]
    copies = rows * sum(len(change.values) for change in changes)
    compared = [explainer for explainer in case.explained if not explainer.needs_measure_wave]
    accepted = copies if case.accepted is None else case.accepted
    return LOGITS.times(copies).plus(case.map_passes(compared).times(accepted))


def _deletion(case: _Case, rows: int) -> Passes:
    steps = _steps_passed(
        case.check, (case.check.grid or default_grid(case.facts.side_px, case.facts.side_px)) ** 2 - 1
    )
    curves = case.check.repeats + 2 * case.orders(case.able)
    return LOGITS.times(rows * (steps * curves + (case.check.fill not in IMAGE_COLORS)))


def _steps_passed(check: DeletionCheck | InsertionDeletionCheck, steps: int) -> int:
    """Steps between the ends of a curve that go through the model: all if it is exact, a guess if it is adaptive."""
    return steps if check.curve == "exact" else math.ceil(steps / ADAPTIVE_SAVING)


def _edda(case: _Case, rows: int) -> Passes:
    return LOGITS.times(rows * 2 * len(case.check.variants) * case.orders(case.explained))


def _pixel_flipping(case: _Case, rows: int) -> Passes:
    steps = len(removal_counts(case.pixels, case.step_px(FLIPPING_STEP_PX), case.check.share)) - 1
    return LOGITS.times(rows * steps * case.orders(case.explained))


def _insertion_deletion(case: _Case, rows: int) -> Passes:
    inner = _steps_passed(case.check, len(removal_counts(case.pixels, case.step_px(GAME_STEP_PX))) - 2)
    blurs = any(game.endswith("_blur") for game in case.check.games)
    return LOGITS.times(rows * (len(case.check.games) * inner * case.orders(case.explained) + blurs))


def _randomization(case: _Case, rows: int) -> Passes:
    stages = min(case.check.stages or case.facts.layers, case.facts.layers)
    colors = _map_colors(case.able, original=False)
    random_models = LOGITS.times(len(colors) * case.groups)
    return case.map_passes(case.explained).times(rows).plus(random_models).times(stages)


CHECK_PASSES: Mapping[type[CheckContract], Callable[[_Case, int], Passes]] = {
    SweepCheck: _sweep,
    SsimSweepCheck: _ssim_sweep,
    DeletionCheck: _deletion,
    EddaCheck: _edda,
    PixelFlippingCheck: _pixel_flipping,
    InsertionDeletionCheck: _insertion_deletion,
    RoadCheck: lambda case, rows: LOGITS.times(rows * 2 * len(case.check.shares) * case.orders(case.explained)),
    SensitivityCheck: lambda case, rows: case.map_passes(case.explained).times(rows * case.check.draws),
    InfidelityCheck: lambda case, rows: LOGITS.times(rows * case.check.draws),
    LocalizationCheck: lambda _, __: NOTHING,
    RandomizationCheck: _randomization,
    ComplexityCheck: lambda _, __: NOTHING,
}
"""Passes of a check on so many rows."""


def measures_maps(plan: AuditPlan) -> bool:
    """Whether the first wave needs the maps of all originals, for the data range of SSIM."""
    return any(isinstance(check, SsimSweepCheck) for check in plan.checks)


def mapped_first(plan: AuditPlan) -> tuple[Explainer, ...]:
    """Explainers whose maps of all originals the first wave needs: those of the sweeps by structural similarity.

    A method that itself needs the first wave has no maps in it.
    """
    sweeps = [check for check in plan.checks if isinstance(check, SsimSweepCheck)]
    return tuple(
        explainer
        for explainer in plan.explainers
        if not explainer.needs_measure_wave and any(check.runs_on(explainer.label) for check in sweeps)
    )


def _measured(plan: AuditPlan, able: list[Any], images: int, rows: int, facts: ModelFacts) -> Passes:
    layers = total(explainer.measuring_passes() for explainer in able).times(images)
    needed = mapped_first(plan)
    mapped = [explainer for explainer in able if explainer in needed]
    colors = LOGITS.times(len(_map_colors(mapped)))
    ends = sum(_tried_ends(check, facts) for check in plan.checks if isinstance(check, SweepCheck))
    return total([_originals(mapped, images, rows, facts), layers, colors, LOGITS.times(rows * ends)])


def _tried_ends(check: SweepCheck, facts: ModelFacts) -> int:
    """Ends of the intervals that automatic augmentations try; one at the identity needs no pass."""
    automatic = [f for f in check.augmentations if f.interval == "auto" and f.label not in facts.unavailable]
    return sum(
        abs(end - augmentation.identity) > 0
        for augmentation in automatic
        for step in range(1, AUTO_INTERVAL_STEPS + 1)
        for end in augmentation.around(augmentation.bound * step / AUTO_INTERVAL_STEPS)
    )


def _originals(able: list[Any], images: int, rows: int, facts: ModelFacts) -> Passes:
    """Predictions and maps of the originals; with one target an image, the prediction is the plain pass forward."""
    maps = map_passes(able, original=True, logits_known=True, side_px=facts.side_px).times(rows)
    if facts.one_target and reads_plain_pass(able):
        return maps.plus(GRADIENT.times(images)).plus(GRADIENT.times(-rows))
    return maps.plus(LOGITS.times(images))


def _check_colors(check: CheckContract) -> set[str]:
    """Colors of whole images that a check passes, once for all images, unless they were passed before."""
    if isinstance(check, DeletionCheck):
        return {check.fill} if check.fill in IMAGE_COLORS else set()
    if isinstance(check, InsertionDeletionCheck):
        named = {"zero": "mean", "black": "black"}
        return {color for end, color in named.items() if any(game.endswith(end) for game in check.games)}
    return set()


def _map_colors(explainers: list[Any], *, original: bool = True) -> set[str]:
    """Colors of whole images whose logits explainers read."""
    read = (explainer.color_read(original=original) for explainer in explainers)
    return {color for color in read if color is not None}
