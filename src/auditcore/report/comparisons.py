"""Comparisons of several models on the same images: paired differences of every metric."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import Comparison, Result
from auditcore.report.bootstrap import summaries
from auditcore.report.bounds import bounds_of, bounds_of_differences, kinds_of
from auditcore.report.paired_values import paired_differences


def compare_models(
    results: Sequence[Result], models: Sequence[str], plan: AuditPlan, digests: Sequence[str]
) -> tuple[Comparison, ...]:
    """Compare every pair of models on every result that both have: the later model minus the earlier one.

    Args:
        results: Results of all models, with the images in the same order.
        models: Names of the models, in the order of the request; comparisons with the first model come first.
        plan: The full plan. Comparisons use the same resamples as the results, so differences are paired by image.
        digests: Digest of each image; images with the same digest count as one.

    Returns:
        One comparison per pair and result, over the distinct images that both models have a value for.
    """
    by_model = {
        model: {(row.check, row.explainer, row.metric, row.variant): row for row in results if row.model == model}
        for model in models
    }
    pairs = [
        (by_model[model][key], before)
        for against, model in combinations(models, 2)
        for key, before in by_model[against].items()
        if key in by_model[model]
    ]
    kinds = kinds_of(plan)
    found = summaries(
        [paired_differences(row, before) for row, before in pairs],
        images=digests,
        bounds=[bounds_of_differences(bounds_of(kinds, row.check, row.metric)) for row, _ in pairs],
        seed=plan.seed,
    )
    return tuple(
        Comparison(
            model=row.model or "",
            against=before.model or "",
            check=row.check,
            explainer=row.explainer,
            metric=row.metric,
            variant=row.variant,
            n=difference.n,
            difference=difference.mean,
            std=difference.std,
            ci=difference.ci,
            ci_reason=difference.ci_reason,
        )
        for (row, before), difference in zip(pairs, found, strict=True)
    )
