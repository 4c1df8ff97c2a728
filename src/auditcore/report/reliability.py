"""Whether a metric orders the explainers alike for every model (Erdem 2021, definition 5.1)."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from auditcore.contracts.report import MeasureReliability, Result
from auditcore.contracts.significance import rounded
from auditcore.metrics.concordance import LEAST, kendall_w


def measure_reliability(
    results: Iterable[Result], models: Sequence[str], controls: Container[str]
) -> tuple[MeasureReliability, ...]:
    """One entry a metric of explainers, over the explainers that have a mean on every model.

    Args:
        results: Of all models.
        models: Their names, at least two.
        controls: Explainers that are left out, because they know nothing of the model.

    Returns:
        In the order of the results. Explainers are alike for a model only where their means are equal as printed.
    """
    means: dict[tuple[str, str, str | None], dict[str, dict[str, float]]] = {}
    directions: dict[tuple[str, str, str | None], bool | None] = {}
    fewest: dict[tuple[str, str, str | None], int] = {}
    for row in results:
        if row.explainer is None or row.explainer in controls or row.model is None:
            continue
        key = (row.check, row.metric, row.variant)
        directions[key] = row.higher_is_better
        own = means.setdefault(key, {model: {} for model in models})[row.model]
        if row.mean is not None:
            own[row.explainer] = row.mean
            fewest[key] = min(row.n, fewest.get(key, row.n))
    return tuple(
        _reliability(key, by_model, n=fewest.get(key, 0), sign=-1.0 if directions[key] is False else 1.0)
        for key, by_model in means.items()
    )


def _reliability(
    key: tuple[str, str, str | None], means: Mapping[str, Mapping[str, float]], *, n: int, sign: float
) -> MeasureReliability:
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
        n=n,
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
