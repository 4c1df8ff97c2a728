"""Sensitivity: how far a map moves under a little noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.checks.check import NOISE, CheckContract, CheckNeed, Noise, Question
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import Passes

METRICS: Mapping[str, Metric] = {
    "max_sensitivity": Metric(
        unit="relative distance",
        higher_is_better=False,
        lowest=0,
        meaning="Largest distance between the maps of noisy copies and the map, over the length of the map.",
    ),
    "repeatability_distance": Metric(
        control=True,
        unit="relative distance",
        higher_is_better=False,
        lowest=0,
        meaning="Distance between a stochastic explainer's map and its map of the same image under another draw, "
        "over the length of the map.",
    ),
}


@final
class SensitivityCheck(CheckContract):
    """How far the map moves, at most, when the input moves by a little noise."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"maps_of_copies"})
    paper: ClassVar[str] = "Yeh et al. 2019; Erdem 2021"
    question: ClassVar[Question] = "stability"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("max_sensitivity",)
    kind: Literal["sensitivity"] = "sensitivity"
    draws: int = Field(default=10, ge=1, le=1000)
    radius: float = Field(default=0.02, gt=0, le=10, description="Uniform noise on each normalized value.")
    noise: Noise = Field(default="common", description=NOISE)

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """The maps of every draw."""
        return case.map_passes(case.explained).times(rows * self.draws)
