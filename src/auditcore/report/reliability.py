"""Measure reliability: whether a metric orders the explainers the same way, per architecture and for all models.

Source: Erdem 2021, definition 5.1: a measure is reliable if, within one data domain and one architecture, it always
orders two methods the same way over models of different performance.
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
    """The means of one metric for each explainer on each model.

    Attributes:
        higher_is_better: Direction of the metric.
        means: Model -> explainer -> mean.
        images: Model -> smallest number of images of any of its means.
    """

    higher_is_better: bool | None
    means: dict[str, dict[str, float]]
    images: dict[str, int]


class ComparedModel(NamedTuple):
    """A model whose order of explainers is compared with that of others.

    Attributes:
        name: Its name; each has another one.
        architecture: Its architecture; None for a black box.
        accuracy: On the images of the comparison, in [0,1]; None where it is not known.
    """

    name: str
    architecture: str | None
    accuracy: float | None


class ExplainerMean(NamedTuple):
    """The mean of one metric for one explainer on one model.

    Attributes:
        model: Name of the model.
        explainer: Name of the explainer.
        check: The check.
        metric: The metric.
        variant: Sub-case; None if there is none.
        higher_is_better: Direction of the metric; None if it has none.
        mean: None where undefined.
        images: Images behind it.
    """

    model: str
    explainer: str
    check: str
    metric: str
    variant: str | None
    higher_is_better: bool | None
    mean: float | None
    images: int


class Group(NamedTuple):
    """Models whose orders of explainers are compared.

    Attributes:
        architecture: Their architecture; None for all models of the audit.
        models: Their names, by ascending accuracy if it is known for all, else in the order of the request.
    """

    architecture: str | None
    models: tuple[str, ...]


def groups_of(models: Sequence[ComparedModel]) -> tuple[Group, ...]:
    """Return the group of all models, then one group per architecture of at least two models.

    Args:
        models: All of them share their images, which are one data domain.
    """
    by_architecture: dict[str, list[ComparedModel]] = {}
    for model in models:
        if model.architecture is not None:
            by_architecture.setdefault(model.architecture, []).append(model)
    shared = [(architecture, own) for architecture, own in by_architecture.items() if len(own) > 1]
    return (Group(None, _by_accuracy(models)), *(Group(one, _by_accuracy(own)) for one, own in shared))


def _by_accuracy(models: Sequence[ComparedModel]) -> tuple[str, ...]:
    if all(model.accuracy is not None for model in models):
        models = sorted(models, key=lambda model: model.accuracy or 0.0)
    return tuple(model.name for model in models)


def measure_reliability(
    results: Iterable[Result], models: Sequence[ReportModel], controls: Container[str]
) -> tuple[MeasureReliability, ...]:
    """Compute the reliability of each metric in an audit of several models.

    Args:
        results: Results of all models.
        models: At least two models, with names.
        controls: Names of random explainers, which are left out.

    Returns:
        As `reliability_of`.
    """
    means = [
        ExplainerMean(
            row.model, row.explainer, row.check, row.metric, row.variant, row.higher_is_better, row.mean, row.n
        )
        for row in results
        if row.explainer is not None and row.explainer not in controls and row.model is not None
    ]
    compared = [ComparedModel(model.name or "", model.architecture, model.performance.accuracy) for model in models]
    return reliability_of(means, compared)


def reliability_of(means: Iterable[ExplainerMean], models: Sequence[ComparedModel]) -> tuple[MeasureReliability, ...]:
    """Compute the reliability of each metric of explainers, over explainers with a mean on every compared model.

    Args:
        means: Of all models and explainers, without random controls.
        models: At least two models.

    Returns:
        Entries in the order of the means; for each metric first the entry of all models, then one per architecture of
        several models. Two explainers are tied on a model only if their means are equal as printed.
    """
    found: dict[Key, _Means] = {}
    for one in means:
        key = (one.check, one.metric, one.variant)
        own = found.setdefault(key, _Means(one.higher_is_better, {model.name: {} for model in models}, {}))
        if one.mean is not None:
            own.means[one.model][one.explainer] = one.mean
            own.images[one.model] = min(one.images, own.images.get(one.model, one.images))
    groups = groups_of(models)
    return tuple(chain.from_iterable((_reliability(key, own, group) for group in groups) for key, own in found.items()))


def _reliability(key: Key, found: _Means, group: Group) -> MeasureReliability:
    sign = -1.0 if found.higher_is_better is False else 1.0
    means: Mapping[str, Mapping[str, float]] = {model: found.means[model] for model in group.models}
    first, *others = means.values()
    explainers = [name for name in first if all(name in own for own in others)]
    # the order of a pair on a model is 1, 0 or -1
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
    """Sort explainers from best to worst; equal means keep the order of the results."""
    return tuple(sorted(explainers, key=lambda name: -sign * means[name]))


def _concordance(scores: Sequence[Sequence[float]]) -> float | None:
    if len(scores[0]) < LEAST:
        return None
    found = kendall_w(np.array(scores))
    return None if math.isnan(found) else rounded(found)
