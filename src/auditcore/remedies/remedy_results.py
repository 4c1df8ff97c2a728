"""What a remedy chooses, and its report, from what its stages have kept; no model is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.contract import Sha256
from auditcore.contracts.remedies.plan import RemedyPlan, RemedyRequest
from auditcore.contracts.remedies.report import (
    Candidate,
    ConditionChange,
    MetricChange,
    Outcome,
    RemediedCondition,
    RemedyReport,
)
from auditcore.contracts.remedies.search import RemedyStart
from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.contracts.training.report import EpochMeasurement, TrainingReport
from auditcore.report.baseline import Baseline, Compared
from auditcore.report.result_keys import result_key
from auditcore.report.serialize import report_bytes

LOST_ACCURACY = "it loses more of the validation score than `accuracy_guard` allows"
NO_VALUE = "the metric has no value on the validation images"


@final
@dataclass(frozen=True)
class Search:
    """What was tried.

    Attributes:
        start: The audited model on the validation images.
        tried: The report of the training of each learning rate.
        candidates: In the order of the learning rates, then of the epochs; at most one is chosen.
    """

    start: RemedyStart
    tried: tuple[TrainingReport, ...]
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate | None:
        """The chosen candidate; None if nothing kept the accuracy."""
        return next((one for one in self.candidates if one.chosen), None)


@final
@dataclass(frozen=True)
class Remedied:
    """What came of the chosen candidate.

    Attributes:
        training: The report of its training.
        training_digest: sha256 of this report.
        audit: Its audit.
        audit_digest: sha256 of this report.
    """

    training: TrainingReport
    training_digest: Sha256
    audit: AuditReport
    audit_digest: Sha256


def searched(
    plan: RemedyPlan, condition: RemediedCondition, start: RemedyStart, tried: Sequence[TrainingReport]
) -> Search:
    """Choose from what was tried: the best value of the candidates that kept the accuracy; among equals the first.

    Args:
        plan: What was to be tried.
        condition: What is to be remedied.
        start: The audited model on the validation images.
        tried: The report of the training of each learning rate.
    """
    candidates = [
        one
        for rate, report in zip(plan.learning_rates, tried, strict=True)
        for one in _candidates(report, plan, condition, rate, start.score)
    ]
    best = _best(candidates, condition)
    chosen = tuple(one.model_copy(update={"chosen": one is best}) for one in candidates)
    return Search(start, tuple(tried), chosen)


def value_of(measured: Sequence[EpochMeasurement], condition: RemediedCondition) -> float | None:
    """The mean of the failed metric among measurements; None where undefined."""
    return next(
        (
            one.mean
            for one in measured
            if (one.explainer, one.metric, one.variant) == (condition.explainer, condition.metric, condition.variant)
        ),
        None,
    )


def _candidates(
    tried: TrainingReport, plan: RemedyPlan, condition: RemediedCondition, rate: float, start_score: float | None
) -> list[Candidate]:
    found = []
    for epochs in sorted(set(plan.epochs)):
        epoch = tried.epochs[epochs - 1]
        value = value_of(epoch.measurements, condition)
        kept = (
            start_score is not None
            and epoch.validation_score is not None
            and epoch.validation_score >= start_score - plan.accuracy_guard
        )
        reason = NO_VALUE if value is None else None if kept else LOST_ACCURACY
        found.append(
            Candidate(
                learning_rate=rate,
                epochs=epochs,
                validation_score=epoch.validation_score,
                value=value,
                kept_accuracy=kept,
                reason=reason,
            )
        )
    return found


def _best(candidates: Sequence[Candidate], condition: RemediedCondition) -> Candidate | None:
    """The best value of those that kept the accuracy; among equals the first."""
    usable = [one for one in candidates if one.reason is None]
    sign = 1 if condition.higher_is_better else -1
    return max(usable, key=lambda one: sign * (one.value or 0.0), default=None)


def remedy_report(
    request: RemedyRequest, failed: AuditReport, condition: RemediedCondition, search: Search, remedied: Remedied | None
) -> RemedyReport:
    """The report of a remedy.

    Args:
        request: What was asked for.
        failed: The report that failed.
        condition: What was to be remedied.
        search: What was tried.
        remedied: What came of the chosen candidate; None if nothing was chosen.
    """
    after = None if remedied is None else remedied.audit
    changes = () if after is None else tuple(_changes(failed, after))
    trainings = [*search.tried, *(() if remedied is None else (remedied.training,))]
    costs = [*(one.cost for one in trainings), *(() if after is None else (after.cost,))]
    return RemedyReport(
        request=request,
        failed_report=sha256(report_bytes(failed)),
        condition=condition,
        outcome=_outcome(condition, changes, after),
        summary=_summary(condition, changes, failed, after),
        start_score=search.start.score,
        start_value=search.start.value,
        candidates=search.candidates,
        plan=None if remedied is None else remedied.training.plan,
        training_report=None if remedied is None else remedied.training_digest,
        model=None if remedied is None else remedied.training.trained.reference,
        verdict_before=failed.verdict,
        verdict_after=None if after is None else after.verdict,
        audit_report=None if remedied is None else remedied.audit_digest,
        conditions=() if after is None else tuple(_conditions(failed, after)),
        changes=changes,
        accuracy_before=failed.audited_models[0].performance.accuracy,
        accuracy_after=None if after is None else after.audited_models[0].performance.accuracy,
        forward_images=search.start.forward_images + sum(one.forward_images for one in costs),
        backward_images=search.start.backward_images + sum(one.backward_images for one in costs),
        seconds=math.fsum(one.seconds for one in costs),
    )


def _changes(failed: AuditReport, after: AuditReport) -> list[MetricChange]:
    baseline = Baseline(
        failed,
        plan=after.plan,
        models=after.audited_models,
        digests=[item.digest for item in after.images.items],
    )
    rows = [one for one in after.results if one.higher_is_better is not None]
    asked = [Compared(None, result_key(one)[1], one.per_image, bool(one.higher_is_better), "absolute") for one in rows]
    found = []
    for row, change in zip(rows, baseline.changes(asked), strict=True):
        found.append(
            MetricChange(
                check=row.check,
                explainer=row.explainer,
                metric=row.metric,
                variant=row.variant,
                before=change.baseline_mean,
                after=row.mean,
                improvement=change.change,
                ci=change.ci,
                n=change.n,
            )
        )
    return found


def _conditions(failed: AuditReport, after: AuditReport) -> list[ConditionChange]:
    def key(outcome: ConditionOutcome) -> tuple[object, ...]:
        return (
            outcome.check,
            outcome.explainer,
            outcome.metric,
            outcome.variant,
            outcome.comparison,
            outcome.threshold,
        )

    now = {key(outcome): outcome for outcome in after.conditions}
    return [
        ConditionChange(before=outcome, after=now[key(outcome)]) for outcome in failed.conditions if key(outcome) in now
    ]


def _own(condition: RemediedCondition, changes: Sequence[MetricChange]) -> MetricChange | None:
    return next(
        (
            one
            for one in changes
            if (one.check, one.explainer, one.metric, one.variant)
            == (condition.check, condition.explainer, condition.metric, condition.variant)
        ),
        None,
    )


def _outcome(condition: RemediedCondition, changes: Sequence[MetricChange], after: AuditReport | None) -> Outcome:
    if after is None:
        return "no_candidate"
    own = _own(condition, changes)
    improved = own is not None and own.ci is not None and own.ci[0] > 0
    if after.verdict == "pass":
        return "remedied"
    return "improved" if improved else "no_improvement"


def _summary(
    condition: RemediedCondition,
    changes: Sequence[MetricChange],
    failed: AuditReport,
    after: AuditReport | None,
) -> str:
    name = " ".join(part for part in (condition.check, condition.metric, condition.variant) if part)
    own = _own(condition, changes)
    if after is None or own is None:
        return (
            "Nothing that was tried kept the accuracy; try smaller learning rates, fewer epochs, or more training "
            "images."
        )
    moved = f"{name} of {condition.explainer} went from {_number(own.before)} to {_number(own.after)}"
    verdicts = f"the verdict was {failed.verdict} and is {after.verdict}"
    spread = "" if own.ci is None else f" (paired improvement {own.improvement:.3g}, 95 % interval {_interval(own.ci)})"
    return f"{moved}{spread}; {verdicts}."


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.3g}"


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"
