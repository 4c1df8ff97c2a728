"""From values of images to the rows of a report: means, intervals and the comparison with chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, final

import numpy as np
from jaxtyping import Float

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.metric import Bounds
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.retraining.measured_images import MeasuredExplainer, MeasuredImage, ScorePoint
from auditcore.contracts.shards import ModelRecord
from auditcore.contracts.significance import VALUE_DIGITS, significant
from auditcore.contracts.training.report import LeftOutImage, TrainingReport
from auditcore.engine.environment import describe_environment
from auditcore.metrics.statistics import distinct
from auditcore.retraining.fine_tuned_model import FineTuned
from auditcore.retraining.fine_tuning import FineTuning
from auditcore.retraining.statistics import over_images

NOT_COMPARED = "the value of this explainer or of the random control is undefined"


@final
@dataclass(frozen=True)
class ImageValues:
    """One metric of one explainer in one order.

    Attributes:
        explainer: The explainer.
        order: What its values rest on.
        metric: Name of the metric.
        higher_is_better: Its direction.
        bounds: Its range.
        values: One per image; NaN where undefined.
        reasons: Position of an image -> why its value is undefined.
        x: Positions of the curve behind the values; empty if there is none.
        points: Values of each image at these positions; NaN where undefined.
    """

    explainer: Explainer
    order: RankingOrder
    metric: str
    higher_is_better: bool
    bounds: tuple[float, float]
    values: Float[np.ndarray, " image"]
    reasons: Mapping[int, str]
    x: tuple[float, ...] = ()
    points: Float[np.ndarray, "image point"] | None = None

    def gain(self, by_chance: ImageValues) -> Float[np.ndarray, " image"]:
        """How much better each value is than that of the random control."""
        sign = 1 if self.higher_is_better else -1
        difference: np.ndarray = sign * (self.values - by_chance.values)
        return difference


def measured_explainers(
    measured: Sequence[ImageValues], *, digests: Sequence[str], seed: int
) -> tuple[MeasuredExplainer, ...]:
    """One row of the report for each explainer, order and metric.

    Args:
        measured: Values, those of the random control among them.
        digests: Digest of each image.
        seed: Of the resamples.
    """
    by_chance = {one.metric: one for one in measured if one.explainer.is_control}
    rows, reasons = [], []
    bounds: list[Bounds] = []
    for one in measured:
        gain = one.gain(by_chance[one.metric])
        span = one.bounds[1] - one.bounds[0]
        rows += [one.values.tolist(), gain.tolist()]
        reasons += [one.reasons, dict.fromkeys(np.flatnonzero(np.isnan(gain)).tolist(), NOT_COMPARED)]
        bounds += [one.bounds, (-span, span)]
    statistics = iter(over_images(rows, reasons=reasons, digests=digests, bounds=bounds, seed=seed))
    found = []
    for one in measured:
        score, gain_over_chance = next(statistics), next(statistics)
        found.append(
            MeasuredExplainer(
                explainer=one.explainer.label,
                control=one.explainer.is_control,
                ranked_by=one.order,
                metric=one.metric,
                higher_is_better=one.higher_is_better,
                score=score,
                gain=None if one.explainer.is_control else gain_over_chance,
                curve=_curve(one, digests),
            )
        )
    return tuple(found)


def _curve(one: ImageValues, digests: Sequence[str]) -> tuple[ScorePoint, ...]:
    if one.points is None:
        return ()
    table = distinct(one.points, digests)
    return tuple(
        ScorePoint(
            x=x,
            mean=significant(float(column[~np.isnan(column)].mean()), VALUE_DIGITS)
            if not np.isnan(column).all()
            else None,
            n=int((~np.isnan(column)).sum()),
        )
        for x, column in zip(one.x, table.T, strict=True)
    )


class SharedFields(TypedDict):
    """The fields of `FineTunedReport`."""

    measurement_id: str
    plan_digest: Sha256
    model: ModelRecord
    explained: ModelRecord
    training: TrainingReport | None
    images: tuple[MeasuredImage, ...]
    left_out: tuple[LeftOutImage, ...]
    results: tuple[MeasuredExplainer, ...]
    not_applicable: dict[str, str]
    estimate: RetrainingCost
    cost: RetrainingCost
    notes: tuple[str, ...]
    environment: dict[str, str]


def shared_fields(tuning: FineTuning, measured: Sequence[ImageValues], *, names: Sequence[str]) -> SharedFields:
    """What the reports of all measures on a fine-tuned model have in common.

    Args:
        tuning: The measurement, all of whose values are kept.
        measured: Values of the images.
        names: Of everything that was measured on the fine-tuned model, beside the predictions.
    """
    tuned, plan = tuning.tuned, tuning.request.plan
    records = tuning.records
    return SharedFields(
        measurement_id=tuning.price.measurement_id,
        plan_digest=digest_of(plan),
        model=records[0],
        explained=records[1],
        training=None if tuning.trained is None else tuning.trained.report,
        images=_images(tuned),
        left_out=tuning.data.left_out,
        results=measured_explainers(measured, digests=tuned.images.digests, seed=plan.seed),
        not_applicable=tuning.unable,
        estimate=tuning.price.estimate,
        cost=tuning.cost(names),
        notes=(*tuned.measured.notes, *plan.notes),
        environment=describe_environment(tuned.measured.device),
    )


def _images(tuned: FineTuned) -> tuple[MeasuredImage, ...]:
    predicted = tuned.logits.argmax(dim=1).tolist()
    return tuple(
        MeasuredImage(
            index=image.index, name=image.name, digest=digest, label=image.labels[0], target=target, predicted=most
        )
        for image, digest, target, most in zip(
            tuned.images.encoded, tuned.images.digests, tuned.targets.tolist(), predicted, strict=True
        )
    )
