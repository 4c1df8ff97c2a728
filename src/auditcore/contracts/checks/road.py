"""ROAD: remove and debias. Pixels are imputed from their neighbors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field, field_validator

from auditcore.contracts.checks.check import CheckNeed, CurveLine, Question
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.checks.ranking import RankingCheck, Share
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes

METRICS: Mapping[str, Metric] = {
    "morf_accuracy": Metric(
        unit="share of removals",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Share of removals after which the target is still predicted, most relevant pixels imputed first.",
    ),
    "lerf_accuracy": Metric(
        unit="share of removals",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Share of removals after which the target is still predicted, least relevant pixels imputed first.",
    ),
    "morf_probability": Metric(
        unit="probability",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Mean target probability over removals, most relevant pixels imputed first.",
    ),
    "lerf_probability": Metric(
        unit="probability",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Mean target probability over removals, least relevant pixels imputed first.",
    ),
    "road_gain": Metric(
        unit="probability",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="lerf_probability - morf_probability.",
    ),
}


@final
class RoadCheck(RankingCheck):
    """Removing pixels by noisy linear imputation, which leaves no visible hole that a model could read."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Rong et al. 2022"
    question: ClassVar[Question] = "faithfulness"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("road_gain", "morf_accuracy")
    lines: ClassVar[Mapping[str, CurveLine]] = {
        "lerf_probability": CurveLine("least relevant first: probability", "one"),
        "morf_probability": CurveLine("most relevant first: probability", "two"),
        "lerf_accuracy": CurveLine("least relevant first: accuracy", "three"),
        "morf_accuracy": CurveLine("most relevant first: accuracy", "four"),
    }
    axis: ClassVar[str] = "share of pixels imputed"
    kind: Literal["road"] = "road"
    shares: tuple[Share, ...] = Field(
        default=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        min_length=1,
        max_length=99,
        description="Shares of pixels imputed, ascending.",
    )
    noise: float = Field(
        default=0.01, ge=0, le=1, description="Standard deviation added to imputed values, normalized."
    )

    @field_validator("shares")
    @classmethod
    def _shares_ascend(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if list(shares) != sorted(set(shares)):
            msg = "shares must ascend without repetition"
            raise ValueError(msg)
        return shares

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """Every share, most relevant first and least relevant first."""
        return LOGITS.times(rows * 2 * len(self.shares) * self.orders(case.explained))
