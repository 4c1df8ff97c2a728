"""Averages over explainers, rankings of models, and the correlation of deletion scores with robustness to deletion.

Source: Won et al. 2025, tables 2, 4, 5 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import ExplainerAverage, ModelRanking, OcclusionCorrelation, Result
from auditcore.contracts.significance import rounded, significant
from auditcore.metrics.explainer_average import average_over_explainers, pooled_standard_error
from auditcore.metrics.model_correlation import LEAST_MODELS, pearson_over_models
from auditcore.metrics.paired_test import LEAST_PAIRS, paired_t_test
from auditcore.report.bootstrap import summaries
from auditcore.report.bounds import bounds_of, kinds_of

NO_EXPLAINER = "no explainer has a value of this metric"
NO_COMMON_EXPLAINER = "no explainer has a value of this metric on every model"
NO_COMMON_IMAGE = "there is no image on which every explainer has a value"
ONE_MODEL = "fewer than two models have an average, so there is nothing to test"
NO_SHARED_IMAGE = "there is no image on which every model has an average"
ONE_IMAGE = "there is only one image on which every model has an average"
EQUAL_MODELS = "the two models have the same average on every image"
EQUAL_DIFFERENCES = "the two averages differ by the same amount on every image, so the difference has no spread"
FEW_MODELS = f"fewer than {LEAST_MODELS} models have values; two points always lie on a line"
NO_SHARED_VALUE = "there is no image on which every model has both values"
EQUAL_MEANS = "all models have the same mean of one of the two scores"

ROBUSTNESS = "rao_auc"
Score = Literal["lerf_auc", "inter_model_deletion"]
SCORES: dict[str, Score] = {"lerf_auc": "lerf_auc", "inter_model_deletion": "inter_model_deletion"}

Key = tuple[str, str, str | None]
"""Check, metric and variant."""


class _Rows(NamedTuple):
    """All results of one metric.

    Attributes:
        unit: Unit of the metric.
        higher_is_better: Direction of the metric.
        by_model: Model, None in an audit of one -> explainer -> values of the images.
        explainers: Names of the explainers that have a value on every model.
        left_out: Names of the other explainers.
    """

    unit: str
    higher_is_better: bool | None
    by_model: dict[str | None, dict[str, np.ndarray]]
    explainers: tuple[str, ...]
    left_out: tuple[str, ...]

    def table(self, model: str | None) -> np.ndarray:
        """Return the values of a model, (explainers, images)."""
        return np.stack([self.by_model[model][explainer] for explainer in self.explainers])

    def values(self, model: str | None, explainer: str | None) -> np.ndarray:
        """Return one value per image, of an explainer, or of the average if None; NaN where undefined."""
        if explainer is not None and explainer in self.by_model[model]:
            return self.by_model[model][explainer]
        if explainer is None and self.explainers:
            return average_over_explainers(self.table(model))
        length = max(len(values) for own in self.by_model.values() for values in own.values())
        return np.full(length, np.nan)


def average_explainers(
    results: Iterable[Result], models: Sequence[str], plan: AuditPlan, digests: Sequence[str]
) -> tuple[ExplainerAverage, ...]:
    """Average every metric of every model over the explainers.

    Args:
        results: Results of all models without controls, over the same images in the same order.
        models: Names of the models, in the order of the request; empty in an audit of one model.
        plan: The full plan; the averages use the same resamples as the results.
        digests: Digests of the images, in the same order; copies of one image count once.

    Returns:
        One entry per model and metric, model by model, in the order of the results.
    """
    found = _by_metric(results, models)
    entries = [(key, rows, model) for model in models or (None,) for key, rows in found.items()]
    averages = [rows.values(model, None) for _, rows, model in entries]
    kinds = kinds_of(plan)
    bounds = [bounds_of(kinds, check, metric) for (check, metric, _), _, _ in entries]
    statistics = summaries([_optional(average) for average in averages], images=digests, bounds=bounds, seed=plan.seed)
    count = len(set(digests))
    return tuple(
        ExplainerAverage(
            model=model,
            check=key[0],
            metric=key[1],
            variant=key[2],
            unit=rows.unit,
            higher_is_better=rows.higher_is_better,
            explainers=rows.explainers,
            left_out=rows.left_out,
            n=summary.n,
            n_not_applicable=count - summary.n,
            mean=summary.mean,
            std=summary.std,
            sem=summary.sem,
            ci=summary.ci,
            ci_reason=summary.ci_reason,
            pooled_sem=significant(pooled_standard_error(rows.table(model))) if rows.explainers else None,
            reason=None if summary.n else _why_no_average(rows, several=bool(models)),
        )
        for (key, rows, model), summary in zip(entries, statistics, strict=True)
    )


def rank_models(results: Iterable[Result], models: Sequence[str], digests: Sequence[str]) -> tuple[ModelRanking, ...]:
    """Rank several models by their average over explainers, on the images that all of them have.

    Args:
        results: Results of all models without controls, over the same images in the same order.
        models: Names of the models, in the order of the request.
        digests: Digests of the images, in the same order; copies of one image count once.

    Returns:
        One entry per metric that has a direction, in the order of the results; none for fewer than two models.
    """
    if len(models) < 2:  # noqa: PLR2004 - one model has no rank
        return ()
    return tuple(
        _ranking(key, rows, rows.higher_is_better, models, digests)
        for key, rows in _by_metric(results, models).items()
        if rows.higher_is_better is not None
    )


def correlate_with_occlusion(results: Iterable[Result], models: Sequence[str]) -> tuple[OcclusionCorrelation, ...]:
    """Correlate, over models, mean `rao_auc` with mean `lerf_auc` and mean `inter_model_deletion`.

    Args:
        results: Results of all models without controls, over the same images in the same order.
        models: Names of the models, in the order of the request.

    Returns:
        For each deletion check and each score: an entry for the average over explainers, then one per explainer; none
        for fewer than two models.
    """
    if len(models) < 2:  # noqa: PLR2004 - one point
        return ()
    found = _by_metric(results, models)
    entries: list[OcclusionCorrelation] = []
    for (check, metric, variant), scores in found.items():
        if metric not in SCORES:
            continue
        # robustness does not depend on an order of cells, so it may be listed without the variant of the score
        robustness = found.get((check, ROBUSTNESS, variant)) or found.get((check, ROBUSTNESS, None))
        if robustness is None:
            continue
        explainers: tuple[str | None, ...] = (
            None,
            *dict.fromkeys(name for own in scores.by_model.values() for name in own),
        )
        for explainer in explainers:
            points = {model: (robustness.values(model, explainer), scores.values(model, explainer)) for model in models}
            entries.append(_correlation((check, SCORES[metric], variant), explainer, points))
    return tuple(entries)


def _by_metric(results: Iterable[Result], models: Sequence[str]) -> dict[Key, _Rows]:
    wanted: tuple[str | None, ...] = tuple(models) or (None,)
    values: dict[Key, dict[str | None, dict[str, np.ndarray]]] = {}
    described: dict[Key, Result] = {}
    for row in results:
        if row.explainer is None:
            continue
        key = (row.check, row.metric, row.variant)
        described.setdefault(key, row)
        own = values.setdefault(key, {model: {} for model in wanted})[row.model]
        own[row.explainer] = np.array([np.nan if value is None else value for value in row.per_image], dtype=np.float64)
    found: dict[Key, _Rows] = {}
    for key, by_model in values.items():
        known = dict.fromkeys(name for own in by_model.values() for name in own)
        common = tuple(
            name for name in known if all(name in own and not np.isnan(own[name]).all() for own in by_model.values())
        )
        row = described[key]
        left_out = tuple(name for name in known if name not in common)
        found[key] = _Rows(row.unit, row.higher_is_better, by_model, common, left_out)
    return found


def _optional(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _why_no_average(rows: _Rows, *, several: bool) -> str:
    if rows.explainers:
        return NO_COMMON_IMAGE
    return NO_COMMON_EXPLAINER if several else NO_EXPLAINER


def _ranking(
    key: Key,
    rows: _Rows,
    higher_is_better: bool,  # noqa: FBT001 - of the metric
    models: Sequence[str],
    digests: Sequence[str],
) -> ModelRanking:
    averages = {model: rows.values(model, None) for model in models}
    ranked = {model: values for model, values in averages.items() if not np.isnan(values).all()}
    shared = _distinct(np.stack(list(ranked.values())), digests) if ranked else np.empty((0, 0))
    means = dict(zip(ranked, (shared.mean(axis=1).tolist() if shared.size else ()), strict=False))
    sign = -1.0 if higher_is_better else 1.0
    # rounded as in the report, so that digits that are not printed do not decide the order
    means = {model: rounded(mean) for model, mean in means.items()}
    order = tuple(sorted(means, key=lambda model: sign * means[model]))
    difference, t, p_value, reason = None, None, None, None
    if len(ranked) < 2:  # noqa: PLR2004 - best and second
        reason = ONE_MODEL
    elif not order:
        reason = NO_SHARED_IMAGE
    else:
        one, other = (shared[list(ranked).index(model)] for model in order[:2])
        difference = rounded(float((one - other).mean()))
        if len(one) < LEAST_PAIRS:
            reason = ONE_IMAGE
        else:
            found = paired_t_test(one, other)
            t, p_value = significant(found.t), significant(found.p_value)
            if p_value is None:
                reason = EQUAL_MODELS if np.allclose(one, other, rtol=1e-12, atol=0) else EQUAL_DIFFERENCES
    return ModelRanking(
        check=key[0],
        metric=key[1],
        variant=key[2],
        higher_is_better=higher_is_better,
        explainers=rows.explainers,
        n=shared.shape[1],
        order=order,
        means=means,
        difference=difference,
        t=t,
        p_value=p_value,
        reason=reason,
    )


def _distinct(table: np.ndarray, digests: Sequence[str]) -> np.ndarray:
    """Return the images that every model has a value for, (models, images); copies of one image are averaged."""
    complete = ~np.isnan(table).any(axis=0)
    positions: dict[str, list[int]] = {}
    for position in np.flatnonzero(complete).tolist():
        positions.setdefault(digests[position], []).append(position)
    if not positions:
        return np.empty((len(table), 0))
    return np.stack([table[:, copies].mean(axis=1) for copies in positions.values()], axis=1)


def _correlation(
    key: tuple[str, Score, str | None],
    explainer: str | None,
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> OcclusionCorrelation:
    """Correlate over the models with both values for at least one image, on the images where all of these have both."""
    known = {model: table for model, pair in points.items() if not np.isnan(table := np.stack(pair)).any(axis=0).all()}
    n, pearson, reason = 0, None, None
    if known:
        tables = np.stack(list(known.values()))
        complete = tables[:, :, ~np.isnan(tables).any(axis=(0, 1))]
        n = complete.shape[2]
    if len(known) < LEAST_MODELS:
        reason = FEW_MODELS
    elif n == 0:
        reason = NO_SHARED_VALUE
    else:
        robustness, scores = complete.mean(axis=2).T
        pearson = significant(pearson_over_models(robustness, scores))
        reason = EQUAL_MEANS if pearson is None else None
    check, metric, variant = key
    return OcclusionCorrelation(
        check=check,
        explainer=explainer,
        metric=metric,
        variant=variant,
        models=tuple(known),
        n=n,
        pearson=pearson,
        reason=reason,
    )
