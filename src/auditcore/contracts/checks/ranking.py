"""What checks that order pixels or cells by relevance have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from auditcore.contracts.checks.check import CheckContract, Reduction
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.ranking_orders import BOTH_ORDERS, RANK_BY, RankBy, orders_of, ranked_variant
from auditcore.contracts.speed import CURVE_MODES, DEFAULT_TOLERANCE, CurveMode, Tolerance

ADAPTIVE_SAVING = 4
"""How many times fewer steps adaptive curves take at their default tolerance: 3.2 to 4.9 where it was measured."""

Share = Annotated[float, Field(gt=0, lt=1)]
"""A share of the pixels, neither none nor all."""


class RankingCheck(CheckContract):
    """Base of the checks that order pixels or cells by relevance.

    Attributes:
        rank_by: What the order rests on; see `ranking_orders`.
        reduce: How channels are joined where the order is signed.
    """

    rank_by: RankBy = Field(default="auto", description=RANK_BY)
    reduce: Reduction = Field(
        default="sum", description="How channels are joined where the order is signed; no other order needs it."
    )

    @model_validator(mode="after")
    def _reduce_has_a_use(self) -> RankingCheck:
        if self.rank_by == "magnitude" and self.reduce != "sum":
            msg = (
                f"reduce is {self.reduce!r}, but rank_by 'magnitude' always takes the largest absolute value over "
                "channels; leave reduce out, or set rank_by to 'signed'"
            )
            raise ValueError(msg)
        return self

    def masks_of(self, metric: str) -> tuple[str, ...]:
        """Sub-cases of a metric apart from the order of pixels or cells."""
        return ()

    def variants_of(self, metric: str) -> tuple[str, ...]:
        """Sub-cases under which it lists a metric; where both orders are asked for, each order of each."""
        listed = self.masks_of(metric)
        if self.rank_by != "both" or not self.metrics[metric].of_order:
            return listed
        names = (ranked_variant("both", order, own) for order in BOTH_ORDERS for own in listed or (None,))
        return tuple(name for name in names if name is not None)

    def orders(self, explainers: Iterable[ExplainerContract]) -> int:
        """Orders of pixels or cells that the maps of these explainers give, all together."""
        return sum(len(orders_of(self.rank_by, explainer)) for explainer in explainers)


class StepCurveCheck(RankingCheck):
    """Base of the checks whose scores are areas under curves of many steps, of which some may be left out.

    Attributes:
        curve: Whether every step is measured.
        tolerance: What the area under an adaptive curve may be off by.
    """

    curve: CurveMode = Field(default="exact", description=CURVE_MODES)
    tolerance: Tolerance = DEFAULT_TOLERANCE

    @property
    def area_tolerance(self) -> float | None:
        """What the areas under its adaptive curves may be off by; None if it measures every step."""
        return self.tolerance if self.curve == "adaptive" else None

    def exactly(self) -> StepCurveCheck:
        """The same check with every step measured."""
        return self.model_copy(update={"curve": "exact"}) if self.curve == "adaptive" else self

    def steps_passed(self, steps: int) -> int:
        """Steps between the ends of a curve that go through the model: all, or an expectation where it is adaptive."""
        return steps if self.curve == "exact" else math.ceil(steps / ADAPTIVE_SAVING)
