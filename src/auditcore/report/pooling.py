"""Statistics over all pairs of an image and a change, in addition to those over images (Erdem 2021, section 5.4)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import PooledStatistics
from auditcore.contracts.shards import Measurement
from auditcore.contracts.significance import significant

Key = tuple[str, str | None, str, str | None]
"""Check, explainer, metric and sub-case of a measurement."""

Pairs = tuple[float | None, ...]
"""One value per pair of an image and a target, in the order of the images; None where undefined."""


def pooled_statistics(plan: AuditPlan, measurements: Sequence[Measurement]) -> dict[Key, PooledStatistics]:
    """Compute mean and spread over pairs, for sub-cases that join several changes.

    Pairs are the values of single changes as printed in the report, so that a reader can reproduce the pooling.

    Args:
        plan: The plan; it defines which changes a sub-case joins.
        measurements: All measurements of one model.
    """
    by_key = {(one.check, one.explainer, one.metric, one.variant): _pairs(one) for one in measurements}
    pooled: dict[Key, PooledStatistics] = {}
    for check in plan.checks:
        pools = check.pools
        for key in by_key:
            label, explainer, metric, variant = key
            pool = None if variant is None else pools.get(variant)
            if label == check.label and pool is not None and check.metrics[metric].pooled:
                kept = None if pool.kept_by is None else by_key.get((label, None, *pool.kept_by), ())
                pooled[key] = _statistics(list(_values(by_key, (label, explainer, metric), pool.members, kept)))
    return pooled


def _pairs(one: Measurement) -> Pairs:
    if one.per_target is None:
        return one.values
    return tuple(value for own in one.per_target for value in own)


def _values(
    by_key: Mapping[Key, Pairs], row: tuple[str, str | None, str], members: Sequence[str], kept: Pairs | None
) -> Iterator[float]:
    """Values of every member; if `kept` is given, only of the pairs for which it is 1."""
    for member in members:
        pairs = by_key[(*row, member)]
        for position, value in enumerate(pairs):
            if value is not None and (kept is None or kept[position] == 1):
                yield value


def _statistics(values: Sequence[float]) -> PooledStatistics:
    return PooledStatistics(
        n=len(values),
        mean=significant(statistics.fmean(values)) if values else None,
        std=significant(statistics.stdev(values)) if len(values) > 1 else None,
    )
