"""The deviation of faster modes from the exact audit: measured on a sample of images, and stated for curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import Deviation, MetricDeviation, StatedError
from auditcore.contracts.shards import AreaError, DeviationSample, ShardResult, worst_error
from auditcore.contracts.significance import VALUE_DIGITS, rounded

Key = tuple[str, str | None, str, str | None]
"""Check, explainer, metric and sub-case."""


@dataclass(frozen=True)
class DeviationRow:
    """A metric of a check over all explainers, as shown on the page and in the terminal.

    Attributes:
        check: Name of the check.
        metric: Name of the metric.
        max_abs: Largest absolute difference for an image; None if no image has both values.
        mean_abs: Mean absolute difference over images and explainers.
        stated: Largest estimated error of its adaptive curves; None without adaptive curves.
        bound: Largest possible error if curves are monotone between measured steps.
        saved: Factor by which adaptive curves reduce the number of steps.
    """

    check: str
    metric: str
    max_abs: float | None
    mean_abs: float | None
    stated: float | None
    bound: float | None
    saved: float | None


def deviation_of(plan: AuditPlan, shards: Mapping[str | None, Sequence[ShardResult]]) -> Deviation | None:
    """Return the report's section on faster modes; None if the plan uses none.

    Args:
        plan: The full plan.
        shards: Name of a model, None in an audit of one -> results of its compute wave, in index order.
    """
    if not plan.modes:
        return None
    samples = {name: _joined(one for shard in own for one in shard.deviations) for name, own in shards.items()}
    images = {index for found in samples.values() for one in found for index in one.images}
    tolerances = {check.label: check.area_tolerance for check in plan.checks if check.area_tolerance is not None}
    return Deviation(
        modes=plan.modes,
        sample_images=len(images),
        metrics=tuple(_difference(name, one) for name, found in samples.items() for one in found),
        stated=tuple(
            StatedError(
                model=name,
                check=check,
                explainer=explainer,
                metric=metric,
                variant=variant,
                tolerance=tolerances[check],
                **error.model_dump(),
            )
            for name, own in shards.items()
            for (check, explainer, metric, variant), error in _errors(own).items()
        ),
    )


def deviation_rows(deviation: Deviation) -> tuple[DeviationRow, ...]:
    """Return the differences of each metric over explainers, sub-cases and models, in the order of the report."""
    rows = []
    for check, metric in dict.fromkeys(
        [(one.check, one.metric) for one in deviation.metrics] + [(one.check, one.metric) for one in deviation.stated]
    ):
        found = [one for one in deviation.metrics if (one.check, one.metric) == (check, metric) and one.n]
        stated = [one for one in deviation.stated if (one.check, one.metric) == (check, metric)]
        count = sum(one.n for one in found)
        rows.append(
            DeviationRow(
                check=check,
                metric=metric,
                max_abs=max((one.max_abs for one in found if one.max_abs is not None), default=None),
                mean_abs=math.fsum(one.n * (one.mean_abs or 0.0) for one in found) / count if count else None,
                stated=max((one.estimated for one in stated), default=None),
                bound=max((one.bound for one in stated), default=None),
                saved=sum(one.steps for one in stated) / max(1, sum(one.steps_measured for one in stated))
                if stated
                else None,
            )
        )
    return tuple(rows)


def _joined(samples: Iterable[DeviationSample]) -> list[DeviationSample]:
    """Join the samples of each metric from several shards."""
    joined: dict[Key, DeviationSample] = {}
    for one in samples:
        key = (one.check, one.explainer, one.metric, one.variant)
        before = joined.get(key)
        joined[key] = (
            one
            if before is None
            else before.model_copy(
                update={
                    "images": (*before.images, *one.images),
                    "fast": (*before.fast, *one.fast),
                    "exact": (*before.exact, *one.exact),
                }
            )
        )
    return list(joined.values())


def _difference(model: str | None, sample: DeviationSample) -> MetricDeviation:
    pairs = list(zip(sample.fast, sample.exact, strict=True))
    differences = [abs(fast - exact) for fast, exact in pairs if fast is not None and exact is not None]
    return MetricDeviation(
        model=model,
        check=sample.check,
        explainer=sample.explainer,
        metric=sample.metric,
        variant=sample.variant,
        n=len(differences),
        max_abs=rounded(max(differences), VALUE_DIGITS) if differences else None,
        mean_abs=rounded(math.fsum(differences) / len(differences), VALUE_DIGITS) if differences else None,
        one_sided=sum((fast is None) != (exact is None) for fast, exact in pairs),
    )


def _errors(shards: Sequence[ShardResult]) -> dict[Key, AreaError]:
    """Return the stated error of every metric with adaptive curves: the largest of all shards, and the sum of steps."""
    errors: dict[Key, AreaError] = {}
    for one in (one for shard in shards for one in shard.measurements):
        key = (one.check, one.explainer, one.metric, one.variant)
        worst = worst_error((errors.get(key), one.error))
        if worst is not None:
            errors[key] = worst
    return errors
