"""The lead of the best explainer over the second best on each headline metric, paired by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import ExplainerLead, Result
from auditcore.report.bootstrap import summaries
from auditcore.report.bounds import bounds_of, bounds_of_differences, kinds_of
from auditcore.report.headlines import is_headline
from auditcore.report.paired_values import paired_differences

LEAST_EXPLAINERS = 2


class _Pair(NamedTuple):
    """The two results with the best means of a metric."""

    best: Result
    second: Result


def leads_of(results: Sequence[Result], plan: AuditPlan, digests: Sequence[str]) -> tuple[ExplainerLead, ...]:
    """Compare the best explainer of every headline metric with the second best, on the images of both.

    Args:
        results: Results of all models without controls, with the images in the same order.
        plan: The full plan. The resamples are those of the results.
        digests: Digest of each image; images with the same digest count as one.

    Returns:
        One lead for each model and headline metric that has a direction and at least two explainers with a mean. Of
        equal means, that of the earlier explainer counts as better.
    """
    kinds = kinds_of(plan)
    pairs = list(_pairs(results, plan))
    found = summaries(
        [paired_differences(pair.best, pair.second) for pair in pairs],
        images=digests,
        bounds=[bounds_of_differences(bounds_of(kinds, pair.best.check, pair.best.metric)) for pair in pairs],
        seed=plan.seed,
    )
    return tuple(
        ExplainerLead(
            model=pair.best.model,
            check=pair.best.check,
            metric=pair.best.metric,
            variant=pair.best.variant,
            best=pair.best.explainer or "",
            second=pair.second.explainer or "",
            n=difference.n,
            difference=difference.mean,
            ci=difference.ci,
            ci_reason=difference.ci_reason,
        )
        for pair, difference in zip(pairs, found, strict=True)
    )


def _pairs(results: Sequence[Result], plan: AuditPlan) -> Iterator[_Pair]:
    kinds = kinds_of(plan)
    groups: dict[tuple[str | None, str, str, str | None], list[Result]] = {}
    for one in results:
        rival = one.explainer is not None and one.mean is not None
        if rival and one.higher_is_better is not None and is_headline(kinds[one.check], one.metric, one.variant):
            groups.setdefault((one.model, one.check, one.metric, one.variant), []).append(one)
    for same in groups.values():
        if len(same) >= LEAST_EXPLAINERS:
            # sorting keeps the order of equal means, also from the largest on
            best, second, *_ = sorted(same, key=lambda one: one.mean or 0.0, reverse=same[0].higher_is_better is True)
            yield _Pair(best, second)
