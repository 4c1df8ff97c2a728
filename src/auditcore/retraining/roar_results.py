"""From the scores of all trainings to curves, areas and the comparison with chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.metric import Bounds
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.retraining.kept import MeasurePrice
from auditcore.contracts.retraining.roar import (
    CellScore,
    MadeMaps,
    Measure,
    RoarCell,
    RoarPlan,
    RoarPoint,
    RoarReport,
    RoarRequest,
    RoarResult,
)
from auditcore.contracts.significance import VALUE_DIGITS, significant
from auditcore.contracts.training.report import TrainingData
from auditcore.engine.environment import describe_environment
from auditcore.engine.model_records import model_record
from auditcore.metrics.remove_and_retrain import FEWEST_POINTS, accuracy_area
from auditcore.models.classifier import Classifier
from auditcore.retraining.statistics import RepeatRow, Row, over_repeats
from auditcore.training.local_training import TrainingSets

ACCURACY: Bounds = (0.0, 1.0)
DIFFERENCE: Bounds = (-1.0, 1.0)

NO_AREA = "a single share has no area; set two or more `shares`"
UNDEFINED_POINT = "the accuracy for a share is undefined"


class _Curves(NamedTuple):
    """What one explainer has come to in one order under one measure.

    Attributes:
        points: One row per share.
        reasons: Repeat -> why a point is undefined, for each share.
        area: The area in each repeat.
    """

    explainer: Explainer
    order: RankingOrder
    measure: Measure
    points: tuple[Row, ...]
    reasons: tuple[dict[int, str], ...]
    area: Row

    def rows(self, by_chance: Mapping[Measure, Row]) -> list[RepeatRow]:
        """Every point, the area and the gain over chance.

        Args:
            by_chance: The areas of the random control.
        """
        gain = _gain(self, by_chance)
        why = NO_AREA if len(self.points) < FEWEST_POINTS else UNDEFINED_POINT
        points = [RepeatRow(row, reasons, ACCURACY) for row, reasons in zip(self.points, self.reasons, strict=True)]
        return [
            *points,
            RepeatRow(self.area, _missing(self.area, why), ACCURACY),
            RepeatRow(gain, _missing(gain, why), DIFFERENCE),
        ]


def roar_results(
    plan: RoarPlan, explained: Sequence[Explainer], scores: Sequence[CellScore], maps: Sequence[MadeMaps]
) -> tuple[RoarResult, ...]:
    """Curves, areas and gains of every explainer, order and measure, in the order of the plan.

    Args:
        plan: The plan.
        explained: Explainers that run on the model, the control among them.
        scores: Of all trainings.
        maps: What is known of the maps.
    """
    known = {one.cell: one for one in scores}
    curves = [
        _curves(plan, known, one, order, measure)
        for one in explained
        for order in plan.orders(one)
        for measure in plan.measures
    ]
    by_chance = {one.measure: one.area for one in curves if one.explainer.is_control}
    statistics = iter(over_repeats([row for one in curves for row in one.rows(by_chance)], seed=plan.training.seed))
    found = []
    for one in curves:
        points = tuple(RoarPoint(share=share, score=next(statistics)) for share in plan.shares)
        area, gain = next(statistics), next(statistics)
        found.append(
            RoarResult(
                explainer=one.explainer.label,
                control=one.explainer.is_control,
                ranked_by=one.order,
                measure=one.measure,
                higher_is_better=one.measure == "kar",
                curve=points,
                area=area,
                gain=None if one.explainer.is_control else gain,
                constant_maps=_constant_share(maps, one.explainer.label, one.order),
            )
        )
    return tuple(found)


@final
@dataclass(frozen=True)
class RoarOutcome:
    """A measurement whose trainings are all done.

    Attributes:
        request: With a pinned model.
        price: What was expected, and the name of the measurement.
        first: The model with the random weights of the first repeat.
        given: The model that explains, if the plan says that it is given.
        sets: Images that were trained and measured on.
        explained: Explainers that run on the model, the control among them.
        unable: Name of an explainer that cannot run on the model -> why.
        scores: Of all trainings.
        maps: What is known of the maps.
    """

    request: RoarRequest
    price: MeasurePrice
    first: Classifier
    given: Classifier | None
    sets: TrainingSets
    explained: Sequence[Explainer]
    unable: dict[str, str]
    scores: Sequence[CellScore]
    maps: Sequence[MadeMaps]


def make_roar_report(outcome: RoarOutcome) -> RoarReport:
    """The report of a measurement.

    Args:
        outcome: What was computed.
    """
    plan, first, sets = outcome.request.plan, outcome.first, outcome.sets
    return RoarReport(
        roar_id=outcome.price.measurement_id,
        request=outcome.request,
        plan_digest=digest_of(plan),
        model=model_record(first),
        explained=None if outcome.given is None else model_record(outcome.given),
        data=TrainingData(
            training_digest=sets.training.digest,
            validation_digest=sets.validation.digest,
            training_images=len(sets.training),
            validation_images=len(sets.validation),
            training_per_class=sets.training.per_class,
            left_out=sets.left_out,
        ),
        results=roar_results(plan, outcome.explained, outcome.scores, outcome.maps),
        not_applicable=outcome.unable,
        estimate=outcome.price.estimate,
        cost=_cost(outcome, str(first.device)),
        notes=tuple(first.notes),
        environment=describe_environment(first.device),
    )


def _curves(
    plan: RoarPlan, known: Mapping[RoarCell, CellScore], explainer: Explainer, order: RankingOrder, measure: Measure
) -> _Curves:
    def score(repeat: int, share: float) -> CellScore:
        cell = RoarCell(repeat=repeat, explainer=explainer.label, order=order, measure=measure, share=share)
        return known[cell.trained]

    scores = [[score(repeat, share) for repeat in range(plan.repeats)] for share in plan.shares]
    points = tuple(tuple(one.score for one in row) for row in scores)
    reasons = tuple({repeat: one.reason for repeat, one in enumerate(row) if one.reason is not None} for row in scores)
    area: Row = (None,) * plan.repeats
    if len(plan.shares) >= FEWEST_POINTS:
        table = np.array([[np.nan if value is None else value for value in row] for row in points]).T
        area = tuple(significant(value, VALUE_DIGITS) for value in accuracy_area(table, plan.shares).tolist())
    return _Curves(explainer, order, measure, points, reasons, area)


def _missing(row: Row, reason: str) -> dict[int, str]:
    """Repeat -> why it has no value."""
    return {repeat: reason for repeat, value in enumerate(row) if value is None}


def _gain(one: _Curves, by_chance: Mapping[Measure, Row]) -> Row:
    """How much better each area is than that of the random control in the same repeat."""
    sign = 1 if one.measure == "kar" else -1
    return tuple(
        None if own is None or other is None else significant(sign * (own - other), VALUE_DIGITS)
        for own, other in zip(one.area, by_chance[one.measure], strict=True)
    )


def _constant_share(maps: Sequence[MadeMaps], label: str, order: RankingOrder) -> float | None:
    """Share of an explainer's maps that gave no order; None if no map was needed."""
    own = [one for one in maps if one.explainer == label]
    if not own:
        return None
    return significant(sum(one.constant[order] for one in own) / sum(one.images for one in own), VALUE_DIGITS)


def _cost(outcome: RoarOutcome, device: str) -> RetrainingCost:
    done: list[CellScore | MadeMaps] = [*outcome.scores, *outcome.maps]
    return RetrainingCost(
        trainings=sum(score.trainings for score in outcome.scores),
        forward_images=sum(one.forward_images for one in done),
        backward_images=sum(one.backward_images for one in done),
        seconds=sum(one.seconds for one in done),
        device=device,
    )
