"""Evaluate a policy on results and compute the verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from auditcore.contracts.policy import Condition, models_judged
from auditcore.contracts.report import (
    ConditionDecision,
    ConditionOutcome,
    ReportStatistics,
    Result,
    Stopping,
    Verdict,
)

_MOST_REASONS = 3
"""Largest number of reasons in a message; the result lists the reason of every image."""

Status = Literal["passed", "warned", "failed", "inconclusive", "not_applicable"]


def evaluate(
    policy: Sequence[Condition],
    results: Sequence[Result],
    models: Sequence[str] = (),
    stopping: Stopping | None = None,
    *,
    stability: Collection[str] = (),
    image_independent: Collection[tuple[str | None, str]] = (),
    reference_models: Mapping[str, str | None] = MappingProxyType({}),
) -> tuple[ConditionOutcome, ...]:
    """Return the outcome of every condition; a condition without enough evidence never passes.

    Args:
        policy: The conditions.
        results: What they are judged by.
        models: Names of the models in an audit of several; a condition that names none is judged for each.
        stopping: How a stop rule ended the audit. If it ended early, its confidence sequences are the intervals.
        stability: Names of the checks that ask whether a map stays the same. A map that ignores the image always does.
        image_independent: Model, None in an audit of one, and explainer whose maps do not depend on the image. Their
            conditions on stability cannot pass; a miss stays a miss.
        reference_models: Check -> the model with which it compares the others, and of which it has no results.
    """
    questions = [
        (number, condition, model)
        for number, condition in enumerate(policy)
        for model in models_judged(condition, models, reference_models.get(condition.check))
    ]
    decisions = [None] * len(questions) if stopping is None else stopping.decisions
    early = stopping is not None and stopping.stopped_early
    outcomes = []
    for (number, condition, model), decision in zip(questions, decisions, strict=True):
        ignores_image = (
            condition.explainer is not None
            and (model, condition.explainer) in image_independent
            and condition.check in stability
        )
        evidence = _evidence(condition, model, results, decision if early else None, ignores_image=ignores_image)
        status, message = evidence.judge()
        outcomes.append(
            ConditionOutcome(
                id=condition.id or str(number),
                model=model,
                check=condition.check,
                explainer=condition.explainer,
                metric=condition.metric,
                variant=condition.variant,
                statistic=condition.statistic,
                min_images=condition.min_images,
                severity=condition.severity,
                comparison="at_least" if evidence.at_least else "at_most",
                threshold=evidence.threshold,
                observed=None if evidence.result is None else evidence.result.mean,
                ci=None if evidence.result is None else evidence.result.ci,
                n=0 if evidence.result is None else evidence.result.n,
                anytime_ci=None if decision is None else decision.interval,
                status=status,
                message=message,
            )
        )
    return tuple(outcomes)


def _evidence(
    condition: Condition,
    model: str | None,
    results: Sequence[Result],
    decision: ConditionDecision | None,
    *,
    ignores_image: bool,
) -> _Evidence:
    wanted = (model, condition.check, condition.explainer, condition.metric, condition.variant)
    found = next((r for r in results if (r.model, r.check, r.explainer, r.metric, r.variant) == wanted), None)
    threshold = condition.at_least if condition.at_least is not None else condition.at_most
    assert threshold is not None  # noqa: S101 - the contract admits exactly one threshold
    decided = decision if decision is not None and decision.decided is not None else None
    return _Evidence(
        condition=condition,
        at_least=condition.at_least is not None,
        threshold=threshold,
        result=found,
        decision=decided,
        ignores_image=ignores_image,
    )


@dataclass(frozen=True)
class _Evidence:
    """The evidence on one condition of one model.

    Attributes:
        decision: Decision of a stop rule that ended the audit early.
        ignores_image: Whether this is a condition on stability and the explainer's map does not depend on the image.
    """

    condition: Condition
    at_least: bool
    threshold: float
    result: Result | None
    decision: ConditionDecision | None
    ignores_image: bool

    def judge(self) -> tuple[Status, str]:
        """Return the status, and one sentence that explains it."""
        result = self.result
        if result is None or result.mean is None:
            return "not_applicable", _why_missing(result)
        side, seen = self._compare(result, result.mean)
        missing = self._missing(result)
        missed: Status = "failed" if self.condition.severity == "fail" else "warned"
        # with `statistic: mean` the observed mean decides, except that too little evidence is never a pass
        if missing is not None and (self.condition.statistic == "ci" or side != "missed"):
            return "inconclusive", f"{missing}; {seen}"
        match side:
            case "missed":
                return missed, seen
            case "open":
                return "inconclusive", seen
            case "met" if self.ignores_image:
                return "inconclusive", f"the map does not depend on the image, so its stability says nothing; {seen}"
            case "met":
                return "passed", seen

    def _compare(self, result: Result, mean: float) -> tuple[Literal["met", "missed", "open"], str]:
        """Compare the evidence with the threshold; return the side, and the comparison in words."""
        over = f"over {_images(result.n)}"
        if self.decision is not None:
            met = self.decision.decided == "met"
            return "met" if met else "missed", (
                f"confidence sequence {_interval(self.decision.interval)} of the mean is {self._side(met=met)}, "
                f"decided after {_images(self.decision.decided_at or result.n)}; mean {mean:.4g} {over}"
            )
        if self.condition.statistic == "mean":
            met = mean >= self.threshold if self.at_least else mean <= self.threshold
            known = "" if result.ci is None else f"; 95 % interval {_interval(result.ci)}"
            return "met" if met else "missed", f"mean {mean:.4g} {over} is {self._side(met=met)}{known}"
        if result.ci is None:
            return "open", f"mean {mean:.4g} {over}, threshold {self.threshold:g}"
        low, high = result.ci
        interval = f"95 % interval {_interval(result.ci)} of the mean {over}"
        if low >= self.threshold if self.at_least else high <= self.threshold:
            return "met", f"{interval} is {self._side(met=True)}"
        if high < self.threshold if self.at_least else low > self.threshold:
            return "missed", f"{interval} is {self._side(met=False)}"
        return "open", f"{interval} contains the threshold {self.threshold:g}, so more images are needed to decide"

    def _side(self, *, met: bool) -> str:
        words = {(True, True): "at least", (True, False): "below", (False, True): "at most", (False, False): "above"}
        return f"{words[self.at_least, met]} {self.threshold:g}"

    def _missing(self, result: Result) -> str | None:
        """Return why the evidence is not enough for a pass, or None if it is enough."""
        least = self.condition.min_images
        if result.n < least:
            return f"only {_images(result.n)} of the {least} that `min_images` requires {_have(result.n)} a value"
        if result.n_not_applicable > result.n:
            known = result.n + result.n_not_applicable
            return f"most images have no value, {result.n_not_applicable} of {known}"
        if result.ci is None and self.decision is None:
            return f"the mean has no interval: {result.ci_reason}"
        return None


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _interval(ends: tuple[float | None, float | None]) -> str:
    low, high = (None if end is None else f"{end:.4g}" for end in ends)
    return f"[{low or 'no bound'}, {high or 'no bound'}]"


def _why_missing(result: Result | None) -> str:
    reasons = sorted(set(result.reasons.values())) if result else []
    if not reasons:
        return "no image has a value"
    # a reason may name the classes of an image, so there may be thousands of different reasons
    more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    return f"no image has a value: {'; '.join(reasons[:_MOST_REASONS])}{more}"


def count(outcomes: Sequence[ConditionOutcome]) -> ReportStatistics:
    """Count the conditions by status."""
    by_status = [outcome.status for outcome in outcomes]
    return ReportStatistics(
        evaluated=len(by_status),
        passed=by_status.count("passed"),
        warned=by_status.count("warned"),
        failed=by_status.count("failed"),
        inconclusive=by_status.count("inconclusive"),
        not_applicable=by_status.count("not_applicable"),
    )


def verdict(outcomes: Sequence[ConditionOutcome]) -> Verdict:
    """Return the verdict: the worst outcome, in the order `fail`, `inconclusive`, `warn`, `pass`.

    A condition of severity `fail` that is neither met nor missed makes the audit inconclusive. A condition of severity
    `warn` that does not pass is a warning, whether it is missed, inconclusive or not applicable. If it could make the
    audit inconclusive, missing it would have a better result than leaving it open.
    """
    if not outcomes:
        return "not_evaluated"
    if any(outcome.status == "failed" for outcome in outcomes):
        return "fail"
    left = [outcome for outcome in outcomes if outcome.status != "passed"]
    if any(outcome.severity == "fail" for outcome in left):
        return "inconclusive"
    return "warn" if left else "pass"
