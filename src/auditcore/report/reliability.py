"""Whether a metric orders the explainers alike: within one architecture, and for all models.

Source: Erdem 2021, definition 5.1: a measure is reliable if within one data domain and one architecture, over models of
different performance, it always puts two methods in the same relation.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np

from auditcore.contracts.report import MeasureReliability, ReportModel, Result
from auditcore.contracts.significance import rounded
from auditcore.metrics.concordance import LEAST, kendall_w

Key = tuple[str, str, str | None]
"""Check, metric and sub-case."""


class _Means(NamedTuple):
    """What one metric says of each explainer on each model.

    Attributes:
        higher_is_better: Direction of the metric.
        means: Model -> explainer -> mean.
        images: Model -> images behind its mean that rests on the fewest.
    """

    higher_is_better: bool | None
    means: dict[str, dict[str, float]]
    images: dict[str, int]


class Group(NamedTuple):
    """Models whose orders are compared.

    Attributes:
        architecture: What they have in common; None for all models of the audit.
        models: Their names, by ascending accuracy where it is known of all, else as requested.
    """

    architecture: str | None
    models: tuple[str, ...]


def groups_of(models: Sequence[ReportModel]) -> tuple[Group, ...]:
    """All models, then those of each architecture that at least two have; images are of one domain, the audit's.

    Args:
        models: Of an audit of several.
    """
    by_architecture: dict[str, list[ReportModel]] = {}
    for model in models:
        if model.architecture is not None:
            by_architecture.setdefault(model.architecture, []).append(model)
    shared = [(architecture, own) for architecture, own in by_architecture.items() if len(own) > 1]
    return (Group(None, _by_accuracy(models)), *(Group(one, _by_accuracy(own)) for one, own in shared))


def _by_accuracy(models: Sequence[ReportModel]) -> tuple[str, ...]:
    accuracies = [model.performance.accuracy for model in models]
    if all(accuracy is not None for accuracy in accuracies):
        models = sorted(models, key=lambda model: model.performance.accuracy or 0.0)
    return tuple(model.name or "" for model in models)


def measure_reliability(
    results: Iterable[Result], models: Sequence[ReportModel], controls: Container[str]
) -> tuple[MeasureReliability, ...]:
    """Entries of each metric of explainers, over the explainers that have a mean on every model that is compared.

    Args:
        results: Of all models.
        models: At least two, with names.
        controls: Explainers that are left out, because they know nothing of the model.

    Returns:
        In the order of the results; of each metric that of all models first, then one an architecture that several
        have. Explainers are alike for a model only where their means are equal as printed.
    """
    found: dict[Key, _Means] = {}
    for row in results:
        if row.explainer is None or row.explainer in controls or row.model is None:
            continue
        key = (row.check, row.metric, row.variant)
        own = found.setdefault(key, _Means(row.higher_is_better, {model.name or "": {} for model in models}, {}))
        if row.mean is not None:
            own.means[row.model][row.explainer] = row.mean
            own.images[row.model] = min(row.n, own.images.get(row.model, row.n))
    groups = groups_of(models)
    return tuple(chain.from_iterable((_reliability(key, own, group) for group in groups) for key, own in found.items()))


def _reliability(key: Key, found: _Means, group: Group) -> MeasureReliability:
    sign = -1.0 if found.higher_is_better is False else 1.0
    means: Mapping[str, Mapping[str, float]] = {model: found.means[model] for model in group.models}
    first, *others = means.values()
    explainers = [name for name in first if all(name in own for own in others)]
    # a pair is in order 1, 0 or -1 for a model
    discordant = tuple(
        (one, two)
        for one, two in combinations(explainers, 2)
        if len({np.sign(own[one] - own[two]) for own in means.values()}) > 1
    )
    ordered = any(own[one] != own[two] for own in means.values() for one, two in combinations(explainers, 2))
    check, metric, variant = key
    return MeasureReliability(
        check=check,
        metric=metric,
        variant=variant,
        scope="all_models" if group.architecture is None else "architecture",
        architecture=group.architecture,
        models=group.models,
        n=min((found.images[model] for model in group.models if model in found.images), default=0),
        reliable=not discordant if ordered else None,
        kendall_w=_concordance([[sign * own[name] for name in explainers] for own in means.values()]),
        orders={model: _from_best(explainers, own, sign=sign) for model, own in means.items()},
        discordant=discordant,
    )


def _from_best(explainers: Sequence[str], means: Mapping[str, float], *, sign: float) -> tuple[str, ...]:
    """In the order of the results where means are equal."""
    return tuple(sorted(explainers, key=lambda name: -sign * means[name]))


def _concordance(scores: Sequence[Sequence[float]]) -> float | None:
    if len(scores[0]) < LEAST:
        return None
    found = kendall_w(np.array(scores))
    return None if math.isnan(found) else rounded(found)
