"""Infidelity: how well a map accounts for what noise does to the logit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.checks.check import CheckContract, CheckNeed, Question
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes

METRICS: Mapping[str, Metric] = {
    "infidelity": Metric(
        unit="squared logit",
        higher_is_better=False,
        lowest=0,
        meaning="Mean squared difference between the map's account of noise and the change of the target logit.",
    ),
}


@final
class InfidelityCheck(CheckContract):
    """Squared error of the map as a linear account of what noise does to the logit."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Yeh et al. 2019; Erdem 2021"
    question: ClassVar[Question] = "faithfulness"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("infidelity",)
    kind: Literal["infidelity"] = "infidelity"
    draws: int = Field(default=10, ge=2, le=10_000)
    std: float = Field(default=0.003, gt=0, le=10, description="Normal noise on each normalized value.")
    normalize: bool = Field(
        default=False, description="Scale each map by the factor that suits it best, as the authors' code does."
    )

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """One per draw; all explainers share the noisy images."""
        return LOGITS.times(rows * self.draws)
