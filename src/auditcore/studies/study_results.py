"""The report of a study, from its trained models and audits; no model is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from auditcore.contracts.contract import Sha256
from auditcore.contracts.plan import Seed
from auditcore.contracts.report import AuditReport, ExplainerAverage, Result
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.studies.report import ModelCorrelation, StudiedModel, StudyReport, StudyRow
from auditcore.metrics.model_correlation import LEAST_MODELS, pearson_over_models
from auditcore.studies.statistics import difference_by_seed, over_seeds

ROBUSTNESS = "rao_auc"
DELETION_SCORES: tuple[Literal["lerf_auc", "inter_model_deletion"], ...] = ("lerf_auc", "inter_model_deletion")
FEW_MODELS = f"fewer than {LEAST_MODELS} models have both values"
EQUAL_MODELS = "all models have the same value of one of the two scores"


class _Key(NamedTuple):
    """What a row is about, apart from the method."""

    check: str
    metric: str
    variant: str | None
    explainer: str | None
    averaged: bool
    control: bool
    unit: str
    higher_is_better: bool | None


ACCURACY = _Key(
    check="performance",
    metric="accuracy",
    variant=None,
    explainer=None,
    averaged=False,
    control=False,
    unit="share of images",
    higher_is_better=True,
)


class _Values(NamedTuple):
    """Values of one method.

    Attributes:
        per_seed: One per seed; None where undefined.
        images: Images behind each.
    """

    per_seed: list[float | None]
    images: list[int]


def study_report(
    request: StudyRequest,
    models: Sequence[StudiedModel],
    audits: Mapping[Seed, AuditReport],
    digests: Mapping[Seed, Sha256],
) -> StudyReport:
    """Compare the methods.

    Args:
        request: With pinned models.
        models: Seed by seed, in the order of the methods.
        audits: Of the models of each seed.
        digests: sha256 of the reports of the audits.
    """
    table = _table(request, models, audits)
    baseline = request.plan.baseline
    rows = []
    for key, by_method in table.items():
        for method in request.plan.methods:
            values = by_method.get(method.name)
            if values is None:
                continue
            summary = over_seeds(values.per_seed)
            other = by_method.get(baseline)
            compared = method.name != baseline and other is not None
            rows.append(
                StudyRow(
                    method=method.name,
                    **key._asdict(),
                    per_seed=tuple(values.per_seed),
                    images=tuple(values.images),
                    n=summary.n,
                    mean=summary.mean,
                    sem=summary.sem,
                    ci=summary.ci,
                    difference=difference_by_seed(values.per_seed, other.per_seed)
                    if compared and other is not None
                    else None,
                )
            )
    last = audits[request.plan.seeds[-1]]
    return StudyReport(
        request=request,
        models=tuple(models),
        audits=dict(digests),
        rows=tuple(rows),
        correlations=tuple(_correlations(table)),
        forward_images=sum(
            [*(one.forward_images for one in models), *(one.cost.forward_images for one in audits.values())]
        ),
        backward_images=sum(
            [*(one.backward_images for one in models), *(one.cost.backward_images for one in audits.values())]
        ),
        seconds=math.fsum([*(one.seconds for one in models), *(one.cost.seconds for one in audits.values())]),
        environment=last.manifest.environment,
    )


Table = dict[_Key, dict[str, _Values]]
"""What a row is about -> method -> values."""


def _table(request: StudyRequest, models: Sequence[StudiedModel], audits: Mapping[Seed, AuditReport]) -> Table:
    seeds = request.plan.seeds
    table: Table = {ACCURACY: {}}

    def put(key: _Key, method: str, place: int, value: float | None, images: int) -> None:
        own = table.setdefault(key, {}).setdefault(method, _Values([None] * len(seeds), [0] * len(seeds)))
        own.per_seed[place], own.images[place] = value, images

    for model in models:
        put(ACCURACY, model.method, seeds.index(model.seed), model.accuracy, model.test_images)
    for place, seed in enumerate(seeds):
        report = audits[seed]
        found: list[tuple[Result | ExplainerAverage, str | None, bool, bool]] = [
            *((one, one.explainer, False, False) for one in report.results),
            *((one, one.explainer, False, True) for one in report.controls),
            *((one, None, True, False) for one in report.averages),
        ]
        for one, explainer, averaged, control in found:
            key = _Key(one.check, one.metric, one.variant, explainer, averaged, control, one.unit, one.higher_is_better)
            put(key, one.model or "", place, one.mean, one.n)
    return table


def _correlations(table: Table) -> list[ModelCorrelation]:
    """Robustness to random deletion with scores of deletion, both averaged over explainers."""
    found = []
    for key, robustness in table.items():
        if not (key.averaged and key.metric == ROBUSTNESS):
            continue
        for metric in DELETION_SCORES:
            own = next(
                (
                    by_method
                    for other, by_method in table.items()
                    if other.averaged and (other.check, other.variant, other.metric) == (key.check, key.variant, metric)
                ),
                None,
            )
            if own is not None:
                found.append(_correlation(key, metric, robustness, own))
    return found


def _correlation(
    key: _Key,
    metric: Literal["lerf_auc", "inter_model_deletion"],
    robustness: Mapping[str, _Values],
    scores: Mapping[str, _Values],
) -> ModelCorrelation:
    pairs = [
        (one, other)
        for method in robustness
        for one, other in zip(robustness[method].per_seed, scores[method].per_seed, strict=True)
        if one is not None and other is not None
    ]
    means = [
        (one, other)
        for method in robustness
        if (one := over_seeds(robustness[method].per_seed).mean) is not None
        and (other := over_seeds(scores[method].per_seed).mean) is not None
    ]
    pearson, over_methods = _pearson(pairs), _pearson(means)
    reason = None
    if pearson is None or over_methods is None:
        reason = FEW_MODELS if min(len(pairs), len(means)) < LEAST_MODELS else EQUAL_MODELS
    return ModelCorrelation(
        check=key.check,
        variant=key.variant,
        metric=metric,
        n=len(pairs),
        pearson=pearson,
        over_methods=over_methods,
        reason=reason,
    )


def _pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    if len(pairs) < LEAST_MODELS:
        return None
    ones, others = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    found = pearson_over_models(ones, others)
    return None if math.isnan(found) else found
