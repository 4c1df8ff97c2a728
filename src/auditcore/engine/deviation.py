"""What faster modes change: some images of an audit are measured a second time, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import DeviationSample, Measurement
from auditcore.devices.arithmetic import arithmetic
from auditcore.explainers.attribution import MadePasses


def measure_deviation(
    plan: AuditPlan,
    group: ImageGroup,
    measured: Sequence[Measurement],
    *,
    images: int,
    compute: Callable[[AuditPlan, ImageGroup], Sequence[Measurement]],
) -> tuple[DeviationSample, ...]:
    """Measure the first images of a group exactly, for the classes that were explained.

    What belongs to the whole audit, such as automatic intervals, is not measured again.

    Args:
        plan: The plan with its faster modes.
        group: Images that were measured with them.
        measured: The measurements with them.
        images: How many images to measure again.
        compute: (plan, group) -> measurements, one value per image.
    """
    sample = tuple(dict.fromkeys(group.indices))[:images]
    exact_plan = plan.exactly()
    with arithmetic(exact_plan.speed, group.classifier.device):
        exact = {_key(one): one for one in compute(exact_plan, exact_rows(group, sample))}
    place = {index: position for position, index in enumerate(dict.fromkeys(group.indices))}
    # where only curves are faster, what an explainer reports about itself is the same
    checks = {check.label for check in exact_plan.checks} | (set() if plan.speed.exact else {"explainer"})
    return tuple(
        DeviationSample(
            check=one.check,
            explainer=one.explainer,
            metric=one.metric,
            variant=one.variant,
            images=sample,
            fast=tuple(one.values[place[index]] for index in sample),
            exact=exact[_key(one)].values,
        )
        for one in measured
        if one.check in checks and _key(one) in exact
    )


def exact_rows(group: ImageGroup, images: Sequence[int]) -> ImageGroup:
    """The rows of some images of a group, with the model in float32 and without results of earlier passes."""
    classifier = group.classifier.exact
    rows = [row for row, index in enumerate(group.indices) if index in images]
    sample = group.with_model(classifier, MadePasses()).take(rows)
    logits: list[Tensor] = []
    sample.each(len(sample), lambda part: logits.append(classifier.logits(sample.pixels[part])))
    known = torch.cat(logits)
    return replace(
        sample,
        passes=MadePasses(logits=known),
        probabilities=classifier.probabilities(known).gather(1, sample.targets[:, None])[:, 0],
        references={name: one.exact for name, one in sample.references.items()},
    )


def _key(one: Measurement | DeviationSample) -> tuple[str, str | None, str, str | None]:
    """Check, explainer, metric and sub-case."""
    return one.check, one.explainer, one.metric, one.variant
