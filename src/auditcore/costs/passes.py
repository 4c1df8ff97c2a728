"""The passes through the model that a plan needs, as a closed formula; the ledger of an audit shows the same numbers.

Counted are images that go forward through the model, and images for which a gradient comes back.

    audit   = measure wave, if the plan has one, + compute wave
    measure = images (prediction) + rows * (what checks measure, such as the ends of automatic intervals)
              + images * (layers to be measured) + maps of the originals, if a check measures them
    compute = images (prediction) + rows * (maps of the originals + each check) + colors
              + rows * (one more map by each stochastic explainer, for its repeatability)

A row is an image and one target. What is shared is counted once:

- Gradient, saliency, input times gradient and Grad-CAM read one pass there and back of the plain model, the logits of
  that pass are the point of the probability curve, and for the originals it is the prediction itself, unless an image
  has several targets. Guided Grad-CAM and guided backpropagation share the guided pass.
- A check that reports two orders of pixels or cells (`rank_by: both`) passes the copies of each; what no order
  changes is passed once.
- A check that compares models passes the images through its reference model as well, in the shards of each other model.
- All explainers of a check see the same copies; curves begin at the prediction and end at the filled image; random
  orders are passed once for all explainers; images of one color (black, mean) once for a whole shard.

Where curves are adaptive, the number is an expectation: their steps depend on what the model says. The sample that an
audit in faster modes measures again exactly comes on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from auditcore.contracts.augmentations import Interval
from auditcore.contracts.capabilities import (
    WHITE_BOX,
    ModelCapabilities,
    check_incompatibility,
    explainer_incompatibility,
    pair_incompatibility,
)
from auditcore.contracts.checks import CheckCase, CheckContract
from auditcore.contracts.explainers import CONTROL, Explainer
from auditcore.contracts.explainers.pass_sharing import colors_read, map_passes, reads_plain_pass
from auditcore.contracts.input_shape import TYPICAL, InputShape
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, NOTHING, Passes, total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Wave

TYPICAL_LAYERS = 100
"""Stages of a randomization without a number, one per layer with parameters: 99 in the demo model, 107 in resnet50."""


@dataclass(frozen=True)
class ModelFacts:
    """What the number of passes depends on besides the plan; the defaults serve before a model is known.

    Attributes:
        shape: Channels, height and width of the model's input.
        layers: Layers with parameters, which a randomization without a number of stages randomizes one by one.
        unable: Names of explainers that cannot be right on the model.
        capabilities: What the model lets an audit see.
        unavailable: Names of augmentations that cannot be applied where the audit runs.
        intervals: What automatic intervals came to, by `interval_key`.
        one_target: Whether no image can have more than one target.
    """

    shape: InputShape = TYPICAL
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
    references: Mapping[str, ModelFacts] | None = None,
) -> dict[str, Passes]:
    """Passes of one wave by purpose.

    Args:
        plan: The plan in full.
        wave: Which wave.
        images: Images that can be decoded and are predicted.
        rows: Images and targets that are explained; as many as images if None.
        facts: Of the model; see there for what is assumed without.
        accepted: Name of an `ssim_sweep` -> copies whose prediction stayed, of which maps are compared; all if None.
        groups: In how many groups the images are audited; each makes its own random models for a randomization.
        references: Name of a model with which checks compare this one -> its facts; the facts of this one if missing.

    Returns:
        `measure`; or `originals`, which are predictions, original maps and the images of one color that these need,
        `repeatability` if some explainer is stochastic, and each check by name. An image of one color counts where it
        is needed first.
    """
    facts = facts or ModelFacts()
    rows = images if rows is None else rows
    able = _able(plan.explainers, facts)
    if wave == "measure":
        return {"measure": _measured(plan, able, images, rows, facts)}
    needed = {
        "originals": _originals(able, images, rows, facts).plus(LOGITS.times(len(colors_read(able)))),
    }
    repeated = [explainer for explainer in able if explainer.repeatable]
    if repeated:
        # diagnostics are read of the first maps only, and the predictions are known
        again = map_passes(repeated, logits_known=True, shape=facts.shape)
        if facts.one_target and reads_plain_pass(repeated):
            # the prediction was the plain pass there and back
            again = again.plus(GRADIENT.times(-1))
        needed["repeatability"] = again.times(rows)
    colored = colors_read(able)
    for check in plan.checks:
        if check_incompatibility(check, facts.capabilities) is not None:
            needed[check.label] = NOTHING
            continue
        new_colors = check.colors - colored
        colored |= new_colors
        own = [explainer for explainer in able if pair_incompatibility(check, explainer) is None]
        case = _case(check, own, facts, groups=groups, accepted=(accepted or {}).get(check.label))
        own_passes = check.passes(case, rows).plus(LOGITS.times(len(new_colors)))
        needed[check.label] = own_passes.plus(_on_reference(check, own, rows, facts, references or {}))
    return needed


def passes_on_reference(
    plan: AuditPlan, reference: str, *, rows: int, facts: ModelFacts, references: Mapping[str, ModelFacts]
) -> Passes:
    """Passes that a model makes in the compute wave of another one, for the checks that compare the two.

    Args:
        plan: The plan of the model under audit.
        reference: Name of the model that makes the passes.
        rows: Images and targets that are explained.
        facts: Of the model under audit.
        references: As for `passes_needed`.
    """
    able = _able(plan.explainers, facts)
    return total(
        _on_reference(check, [one for one in able if pair_incompatibility(check, one) is None], rows, facts, references)
        for check in plan.checks
        if check.reference_model == reference
    )


def _on_reference(
    check: CheckContract, able: Sequence[Explainer], rows: int, facts: ModelFacts, references: Mapping[str, ModelFacts]
) -> Passes:
    """Passes that the reference model of a check makes; none if it has none.

    Args:
        check: The check.
        able: Explainers that can run on the model under audit and that the check can say something of.
        rows: Images and targets that are explained.
        facts: Of the model under audit.
        references: As for `passes_needed`.
    """
    if check.reference_model is None:
        return NOTHING
    other = references.get(check.reference_model, facts)
    return check.reference_passes(_case(check, _able(able, other), other), rows)


def map_comparisons(plan: AuditPlan, facts: ModelFacts) -> int:
    """Pairs of maps that the checks of a plan compare per image and target; work that is no pass of the model."""
    able = _able(plan.explainers, facts)
    return sum(check.map_comparisons(_case(check, able, facts)) for check in plan.checks)


def _able(explainers: Sequence[Explainer], facts: ModelFacts) -> list[Explainer]:
    """Explainers that run on a model."""
    return [
        one
        for one in explainers
        if one.label not in facts.unable and explainer_incompatibility(one, facts.capabilities) is None
    ]


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
    own = tuple(explainer for explainer in able if check.runs_on(explainer.label))
    return CheckCase(
        able=own,
        explained=own if any(explainer.is_control for explainer in own) else (*own, CONTROL),
        shape=facts.shape,
        layers=facts.layers,
        unavailable=facts.unavailable,
        intervals=facts.intervals,
        groups=groups,
        accepted=accepted,
    )


def mapped_first(plan: AuditPlan) -> tuple[Explainer, ...]:
    """Explainers whose maps of all originals the first wave needs, for checks that measure them.

    A method that itself needs the first wave has no maps in it.
    """
    measuring = [check for check in plan.checks if check.measures_maps]
    return tuple(
        explainer
        for explainer in plan.explainers
        if not explainer.needs_measure_wave and any(check.runs_on(explainer.label) for check in measuring)
    )


def _measured(plan: AuditPlan, able: Sequence[Explainer], images: int, rows: int, facts: ModelFacts) -> Passes:
    layers = total(explainer.measuring_passes() for explainer in able).times(images)
    needed = mapped_first(plan)
    mapped = [explainer for explainer in able if explainer in needed]
    colors = LOGITS.times(len(colors_read(mapped)))
    own = total(check.measure_passes(_case(check, able, facts), rows) for check in plan.checks)
    return total([_originals(mapped, images, rows, facts), layers, colors, own])


def _originals(able: Sequence[Explainer], images: int, rows: int, facts: ModelFacts) -> Passes:
    """Predictions and maps of the originals; with one target an image, the prediction is the plain pass forward."""
    maps = map_passes(able, original=True, logits_known=True, shape=facts.shape).times(rows)
    if facts.one_target and reads_plain_pass(able):
        return maps.plus(GRADIENT.times(images)).plus(GRADIENT.times(-rows))
    return maps.plus(LOGITS.times(images))
