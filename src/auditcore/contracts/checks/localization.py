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
        meaning="Share of positive relevance inside the boxes or masks.",
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
        meaning="Overlap of the best of the boxes with the box around all hot pixels; a mask counts by its box.",
    ),
    "wsol_iou_largest_region": Metric(
        unit="intersection over union",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Overlap of the best of the boxes with the box around the largest connected hot region.",
    ),
    "average_precision": Metric(
        unit="area",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Area under the precision-recall curve of the map that finds the pixels of the objects (AUPRC); a map "
        "without knowledge gets box_share.",
    ),
    "mask_iou": Metric(
        unit="intersection over union",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Overlap of the hot pixels with the pixels of the objects; the mean over images is the mIoU.",
    ),
    "hit_rate": Metric(
        unit="share of images",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="1 where the most relevant pixel is on an object or at most `tolerance_px` away from one (pointing "
        "game); the mean over images is the hit rate.",
    ),
    "box_share": Metric(
        control=True,
        of_explainer=False,
        unit="share of pixels",
        higher_is_better=None,
        lowest=0,
        highest=1,
        meaning="Share of the image inside the boxes or masks: what a map without knowledge gets from "
        "energy_pointing_game and average_precision.",
    ),
}


@final
class LocalizationCheck(CheckContract):
    """Does the map lie on the object? Needs boxes or masks in the image batch; an image with masks needs no boxes.

    Attributes:
        reduce: How the channels of a map become one value per pixel.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset()
    paper: ClassVar[str] = (
        "Wang et al. 2020; Zhang et al. 2021; Choe et al. 2020; Won et al. 2025; Zhang et al. 2018; Arun et al. 2021; "
        "Saporta et al. 2022"
    )
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
    mask_threshold: float | Literal["otsu"] = Field(
        default="otsu",
        description="What makes a pixel hot for mask_iou: Otsu's threshold as in Saporta et al. 2022, or a share of "
        "the map's maximum, in (0, 1).",
    )
    tolerance_px: float = Field(
        default=15.0,
        ge=0,
        le=1000,
        description="Distance from the object, in pixels of the model's input, within which the most relevant pixel is "
        "a hit: 15 as in Zhang et al. 2018, whose images have about 500 x 375 pixels; 0 as in Saporta et al. 2022.",
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

    @field_validator("mask_threshold")
    @classmethod
    def _is_a_share(cls, mask_threshold: float | Literal["otsu"]) -> float | Literal["otsu"]:
        if mask_threshold != "otsu" and not 0 < mask_threshold < 1:
            msg = f"mask_threshold must be `otsu` or a share between 0 and 1, such as 0.5; got {mask_threshold:g}"
            raise ValueError(msg)
        return mask_threshold

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
