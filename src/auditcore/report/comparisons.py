"""Several models on the same images: paired differences of every metric."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from auditcore.contracts.report import Comparison, Result
from auditcore.report.bootstrap import summaries


def compare_models(results: Sequence[Result], models: Sequence[str], *, seed: int) -> tuple[Comparison, ...]:
    """Every pair of models on every result that both have, a later model minus an earlier one.

    Args:
        results: Of all models, in the same order of images.
        models: Their names, in the order of the request; the first is what others are compared with first.
        seed: The plan's; resamples are those of the results, so that a difference is resampled image by image.

    Returns:
        Over the images that both models have a value for.
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
    found = summaries([_differences(row, before) for row, before in pairs], seed=seed)
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
        )
        for (row, before), difference in zip(pairs, found, strict=True)
    )


def _differences(row: Result, before: Result) -> list[float | None]:
    return [
        None if value is None or other is None else value - other
        for value, other in zip(row.per_image, before.per_image, strict=True)
    ]
