"""Localization: whether the map lies on the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field, field_validator

from auditcore.contracts.checks.check import CheckContract, CheckNeed, Question, Reduction
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import NOTHING, Passes

METRICS: Mapping[str, Metric] = {
    "energy_pointing_game": Metric(
        unit="share of relevance",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Share of positive relevance inside the boxes.",
    ),
    "effective_heat_ratio": Metric(
        unit="area",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Heat inside the boxes per pixel above a threshold, averaged over 11 quantiles of the heat from "
        "0.1 of the maximum on; 1 for a map that is the boxes.",
    ),
    "wsol_iou": Metric(
        unit="intersection over union",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Overlap of the best of the boxes with the box around all hot pixels.",
    ),
    "wsol_iou_largest_region": Metric(
        unit="intersection over union",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Overlap of the best of the boxes with the box around the largest connected hot region.",
    ),
    "box_share": Metric(
        control=True,
        of_explainer=False,
        unit="share of pixels",
        higher_is_better=None,
        lowest=0,
        highest=1,
        meaning="Share of the image inside the boxes: what a map without knowledge gets from energy_pointing_game.",
    ),
}


@final
class LocalizationCheck(CheckContract):
    """Does the map lie on the object? Needs boxes in the image batch."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset()
    paper: ClassVar[str] = "Wang et al. 2020; Zhang et al. 2021; Choe et al. 2020; Won et al. 2025"
    question: ClassVar[Question] = "localization"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("energy_pointing_game", "effective_heat_ratio")
    kind: Literal["localization"] = "localization"
    threshold: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the map's maximum from which a pixel is in the mask of wsol_iou and "
        "wsol_iou_largest_region: 0.2 as in Zhou et al. 2016; Won et al. 2025 name none, and Choe et al. 2020 search "
        "for the best.",
    )
    min_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Images whose target probability is not above this are not applicable; 0 leaves no image out.",
    )
    box_share: tuple[float, float] = Field(
        default=(0.0, 1.0), description="Share of the image that its boxes may cover; others are not applicable."
    )
    reduce: Reduction = "sum"

    @field_validator("box_share")
    @classmethod
    def _shares_in_order(cls, box_share: tuple[float, float]) -> tuple[float, float]:
        low, high = box_share
        if not 0 <= low < high <= 1:
            msg = f"box_share must be two shares in order, such as [0.1, 0.5]; got [{low}, {high}]"
            raise ValueError(msg)
        return box_share

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """None: it reads the maps of the originals."""
        return NOTHING
