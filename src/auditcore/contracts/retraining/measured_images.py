"""Results of measures on a fine-tuned model: one value per image and explainer."""

from __future__ import annotations

from typing import Final, final

from pydantic import Field

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.retraining.statistic import Statistic
from auditcore.contracts.shards import ModelRecord
from auditcore.contracts.training.report import LeftOutImage, TrainingReport

FINE_TUNED_SCHEMA_VERSION: Final = "1.0"

FINE_TUNING = (
    "How the model is fine-tuned first, so that images with missing pixels are nothing new to it. If null, `model` has "
    "been fine-tuned already and is measured as it is: on `validation` if that names images, else on `images`. One "
    "fine-tuning with random masks can serve F-Fidelity and IDSDS."
)

UNUSED_TO_HOLES = (
    "fine-tuning did not mask such parts of the images, so that images with missing pixels may be new to the model; "
    "use the method `random_masks`"
)
"""A note of the report."""


@final
class MeasuredImage(Contract):
    """An image that was measured.

    Attributes:
        index: Its position in its batch, from 0.
        name: Name of its file; null without one.
        digest: sha256 of its file.
        label: Its class.
        target: The class that was explained and whose score was read.
        predicted: The most probable class of the measured model.
    """

    index: int
    name: str | None
    digest: Sha256
    label: int
    target: int
    predicted: int


@final
class ScorePoint(Contract):
    """One point of a curve over images.

    Attributes:
        x: Its position.
        mean: Mean over the images with a value; null if there are none.
        n: How many these are.
    """

    x: float
    mean: float | None
    n: int


@final
class MeasuredExplainer(Contract):
    """One metric of one explainer.

    Attributes:
        explainer: Its name.
        control: Whether it is the random control.
        ranked_by: The order of pixels or cells that the values rest on.
        metric: Name of the metric.
        higher_is_better: Its direction.
        score: One value per image, in the order of `images`.
        gain: How much better the value is than that of the random control on the same image, so that above 0 is better
            than chance; null for the control itself.
        curve: Means behind the score, such as by size of the explanation; empty if there is no curve.
    """

    explainer: str
    control: bool
    ranked_by: RankingOrder
    metric: str
    higher_is_better: bool
    score: Statistic
    gain: Statistic | None
    curve: tuple[ScorePoint, ...] = Field(default=(), exclude_if=lambda curve: not curve)


class FineTunedReport(Contract):
    """Base of the reports of measures on a fine-tuned model.

    Attributes:
        measurement_id: Of the measurement.
        plan_digest: sha256 of the canonical JSON of the plan.
        model: The model that was measured, after fine-tuning.
        explained: The model that made the maps.
        training: The report of the fine-tuning; null if the model was measured as it is.
        images: The images that were measured.
        left_out: Images that could not be used.
        results: One entry per explainer, order and metric.
        not_applicable: Name of an explainer that cannot run on the model -> why.
        estimate: What was expected before anything was trained.
        cost: What was counted.
        notes: What a reader should know.
        environment: Software and hardware.
    """

    measurement_id: str
    plan_digest: Sha256
    model: ModelRecord
    explained: ModelRecord
    training: TrainingReport | None
    images: tuple[MeasuredImage, ...]
    left_out: tuple[LeftOutImage, ...] = ()
    results: tuple[MeasuredExplainer, ...]
    not_applicable: dict[str, str] = Field(default_factory=dict)
    estimate: RetrainingCost
    cost: RetrainingCost
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
