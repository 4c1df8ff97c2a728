"""The compute wave on one group of images: every check, and what explainers report about themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from auditcore.checks.image_group import REPEAT, ImageGroup
from auditcore.checks.measuring import measurement, not_applicable, without_rows
from auditcore.checks.registry import CHECKS
from auditcore.contracts.automatic_intervals import Quantities
from auditcore.contracts.capabilities import check_incompatibility
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import DeviationSample, Measurement
from auditcore.engine.deviation import measure_deviation
from auditcore.engine.pass_meter import PassMeter
from auditcore.engine.targets import merge_targets
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.similarity import pearson


def compute_group(
    plan: AuditPlan,
    group: ImageGroup,
    shared: Quantities,
    meter: PassMeter,
    *,
    about_explainers: bool = True,
) -> list[Measurement]:
    """Run every check on one group. The maps that all checks need come first, so that no check pays for another.

    Args:
        plan: What to measure.
        group: The images.
        shared: Quantities of the whole audit.
        meter: Counts passes by purpose.
        about_explainers: Whether to measure also what belongs to explainers and not to a check.
    """
    with meter.measuring("originals"):
        group.explain_originals(group.able)
    if about_explainers and group.repeatable:
        with meter.measuring(REPEAT):
            group.repeat_originals(group.repeatable)
    found: list[Measurement] = []
    missing = {explainer.label: group.without_map(explainer) for explainer in group.able}
    for check in plan.checks:
        listed = group.under(check)
        unable = listed.unable_under(check)
        if check_incompatibility(check, group.classifier.capabilities) is None:
            with meter.measuring(check.label):
                measured = CHECKS[type(check)].compute(check, listed.without(unable), shared)
            found += [without_rows(one, missing.get(one.explainer or "", {}), group.indices) for one in measured]
        for label, reason in unable.items():
            found += not_applicable(check, label, reason, indices=group.indices)
    if about_explainers:
        found += _about_explainers(group)
    return merge_targets(found, group.indices)


def _about_explainers(group: ImageGroup) -> list[Measurement]:
    """What explainers report about themselves, and how well stochastic ones repeat their maps."""
    found = [
        measurement(
            None,
            metric,
            values.cpu(),
            indices=group.indices,
            explainer=explainer.label,
            undefined=explainer.diagnostics[metric].undefined,
        )
        for explainer in group.able
        for metric, values in group.original(explainer).diagnostics.items()
    ]
    everywhere = torch.ones_like(group.pixels[:, :1], dtype=torch.bool)
    for explainer in group.repeatable:
        # summed in float64: where channels cancel, rounding must not remain as relevance
        original, again = (
            reduce_channels(made.maps.double(), "sum") for made in (group.original(explainer), group.repeat(explainer))
        )
        found.append(
            measurement(
                None,
                "repeatability",
                pearson(original, again, everywhere).cpu(),
                indices=group.indices,
                explainer=explainer.label,
                undefined="one of the two maps is constant or not finite, so their correlation is undefined",
            )
        )
    return found


def measure_deviations(
    plan: AuditPlan,
    group: ImageGroup,
    measured: Sequence[Measurement],
    shared: Quantities,
    meter: PassMeter,
    *,
    images: int,
) -> tuple[DeviationSample, ...]:
    """What the plan's faster modes change on the first images of a group; nothing if the plan has no faster modes."""
    if not plan.modes or images < 1:
        return ()
    with meter.measuring("deviation"):
        return measure_deviation(
            plan,
            group,
            measured,
            images=images,
            # the cost of the sample is counted as a whole, not by check
            compute=lambda exact, rows: compute_group(
                exact, rows, shared, PassMeter(meter.classifiers), about_explainers=not plan.speed.exact
            ),
        )
