"""Complexity: how few pixels carry the map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from auditcore.contracts.checks.check import CheckContract, CheckNeed, Question, Reduction
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import NOTHING, Passes

METRICS: Mapping[str, Metric] = {
    "sparseness": Metric(
        unit="Gini index",
        higher_is_better=None,
        lowest=0,
        highest=1,
        meaning="Gini index of absolute relevance over pixels: 0 all alike, 1 all in one pixel.",
    ),
    "entropy": Metric(
        unit="nats",
        higher_is_better=None,
        lowest=0,
        meaning="Entropy of absolute relevance over pixels, at most the logarithm of their number.",
    ),
}


@final
class ComplexityCheck(CheckContract):
    """How few pixels carry the map."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset()
    paper: ClassVar[str] = "Chalasani et al. 2020; Bhatt et al. 2020"
    question: ClassVar[Question] = "complexity"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("sparseness",)
    kind: Literal["complexity"] = "complexity"
    reduce: Reduction = "sum"

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """None: it reads the maps of the originals."""
        return NOTHING
