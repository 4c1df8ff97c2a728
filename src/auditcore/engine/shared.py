"""Quantities of the whole audit, reduced from what the first wave's shards measured."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from auditcore.checks.registry import CHECKS
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult
from auditcore.explainers.registry import EXPLAINERS

Merge = Callable[[Sequence[Sequence[float]]], Sequence[Sequence[float]]]


def mergers(plan: AuditPlan) -> dict[str, Merge]:
    """Key -> how rows of that quantity are merged into few, for those where they can be."""
    methods = ((explainer, EXPLAINERS[type(explainer)].merge_shared) for explainer in plan.explainers)
    return {
        explainer.shared_key: functools.partial(merge, explainer) for explainer, merge in methods if merge is not None
    }


def reduce_shared(plan: AuditPlan, results: Iterable[ShardResult]) -> dict[str, tuple[float, ...]]:
    """Reduce the measure wave; pure and cheap, so every shard of the second wave calls it itself.

    Args:
        plan: The plan.
        results: Results of the measure wave of one model, in index order; results of other waves are ignored. None is
            kept while the next is read.

    Returns:
        Key -> values, as the checks and explainers of the plan define them; empty without a measure wave.
    """
    merge = mergers(plan)
    rows: dict[str, list[Sequence[float]]] = defaultdict(list)
    for result in results:
        if result.wave == "measure":
            for sample in result.shared:
                rows[sample.key].extend(sample.rows)
                if sample.key in merge:
                    rows[sample.key] = list(merge[sample.key](rows[sample.key]))
    shared: dict[str, tuple[float, ...]] = {}
    for check in plan.checks:
        reduce = CHECKS[type(check)].reduce_shared
        if reduce is not None:
            shared |= reduce(check, rows)
    for explainer in plan.explainers:
        reduce_layer = EXPLAINERS[type(explainer)].reduce_shared
        key = explainer.shared_key
        if reduce_layer is not None and rows[key]:
            shared[key] = reduce_layer(explainer, rows[key])
    return shared
