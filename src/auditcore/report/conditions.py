"""Judge the conditions of a policy by the results of an audit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, final

from auditcore.contracts.checks.check import ABOUT_THE_MODEL
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition, Question
from auditcore.contracts.report import BaselineChange, ConditionDecision, ConditionOutcome, ConditionStatus, Result
from auditcore.report.baseline import Baseline, Compared
from auditcore.report.floors import random_labels
from auditcore.report.random_scores import RandomScore, random_scores
from auditcore.report.result_keys import Results

_MOST_REASONS = 3
"""Largest number of reasons in a message; the result lists the reason of every image."""

Interval = tuple[float, float] | None
ChangeKind = Literal["absolute", "relative"]
Side = Literal["met", "missed", "open"]
"""Whether all of the evidence meets the threshold, or misses it, or neither."""


@final
@dataclass(frozen=True)
class Findings:
    """What an audit found, as far as conditions need it.

    Attributes:
        plan: The full plan.
        results: Model, None in an audit of one, and row -> result; with the results of controls.
        image_independent: Model and explainer of maps that do not depend on the image. Their conditions on stability
            cannot pass; a miss stays a miss.
        decisions: Decision of a stop rule on each question, None where it has none; empty without a rule.
        stopped_early: Whether a stop rule ended the audit early, so that only its confidence sequences hold.
        baseline: The earlier audit; needed by conditions that compare with it.
    """

    plan: AuditPlan
    results: Results
    image_independent: Collection[tuple[str | None, str]] = ()
    decisions: Sequence[ConditionDecision | None] = ()
    stopped_early: bool = False
    baseline: Baseline | None = None


@final
@dataclass(frozen=True)
class Judged:
    """The outcome of one condition, and what it shows.

    Attributes:
        outcome: The outcome.
        of_maps: Whether it is about the maps of an explainer, and not about the model or a random control.
        refutes_random: Whether it passed, and a random map does not meet it.
        refutes_blind: Whether it passed, and a map that ignores the model cannot be expected to meet it.
    """

    outcome: ConditionOutcome
    of_maps: bool
    refutes_random: bool
    refutes_blind: bool


@dataclass(frozen=True)
class _Estimate:
    """A mean that a condition compares with its threshold.

    Attributes:
        n: Distinct images with a value.
        missing: Distinct images without one.
        mean: None without any value.
        ci: Its 95 % interval; None if there is none.
        reason: Why there is no mean or no interval.
        expected: Whether the mean is known only as an expectation, so that a threshold at it is reached by chance.
    """

    n: int
    missing: int
    mean: float | None
    ci: Interval
    reason: str
    expected: bool = False


@dataclass(frozen=True)
class _Evidence:
    """The evidence on one question.

    Attributes:
        own: What is compared with the threshold.
        change: The change since the baseline, where that is compared.
        differences: What differs from the baseline besides the model.
        random: What knows nothing of the image, and what it gets in place of the explainer's map.
        decision: Decision of a stop rule that ended the audit early.
        stopped_early: Whether only this decision counts.
        ignores_image: Whether the condition is on stability and the explainer's map does not depend on the image.
        must_change: Whether the best map changes at random, as under randomization.
    """

    condition: Condition
    own: _Estimate
    change: BaselineChange | None
    differences: tuple[str, ...]
    random: tuple[tuple[str, _Estimate], ...]
    decision: ConditionDecision | None
    stopped_early: bool
    ignores_image: bool
    must_change: bool

    def judge(self) -> tuple[ConditionStatus, str, bool]:
        """Return the status, one sentence that explains it, and whether a random map meets the condition too."""
        mean = self.own.mean
        if mean is None:
            status, message = self._not_applicable()
            return status, message, False
        side, seen = self._compare(mean)
        seen += self._about_the_baseline()
        missing = self._missing()
        missed: ConditionStatus = "failed" if self.condition.severity == "fail" else "warned"
        # with `statistic: mean` the observed mean decides, except that too little evidence is never a pass
        if missing is not None and (self.condition.statistic == "ci" or side != "missed"):
            return "inconclusive", f"{missing}; {seen}", False
        if side == "missed":
            return missed, seen, False
        if side == "open":
            return "inconclusive", seen, False
        return self._met(seen)

    def _met(self, seen: str) -> tuple[ConditionStatus, str, bool]:
        """Return what `judge` does for a condition that is met on enough evidence."""
        if self.ignores_image:
            reason = "the map does not depend on the image, so its stability says nothing"
            return "inconclusive", f"{reason}; {seen}", False
        at_random = self._met_at_random()
        if at_random is None:
            return "passed", seen, False
        return "passed" if self.must_change else "vacuous", f"{at_random}; {seen}", True

    def _not_applicable(self) -> tuple[ConditionStatus, str]:
        reason = self.own.reason
        match self.condition.on_not_applicable:
            case "fail":
                status: ConditionStatus = "failed" if self.condition.severity == "fail" else "warned"
                return status, f"{reason}; `on_not_applicable` is `fail`, so this counts as a miss"
            case "warn":
                return "warned", f"{reason}; `on_not_applicable` is `warn`, so this is a warning"
            case "skip":
                return "skipped", f"{reason}; `on_not_applicable` is `skip`, so the condition does not count"
            case "inconclusive":
                return "not_applicable", reason

    def _compare(self, mean: float) -> tuple[Side, str]:
        """Compare the evidence with the threshold; return the side, and the comparison in words."""
        over = f"over {_images(self.own.n)}"
        if self.stopped_early:
            return self._compare_sequence(mean, over)
        side = _side(self.condition, self.own, mean)
        if self.condition.statistic == "mean":
            known = "" if self.own.ci is None else f"; 95 % interval {_interval(self.own.ci)}"
            return side, f"{self._what} {mean:.4g} {over} is {self._relation(side)}{known}"
        if self.own.ci is None:
            return side, f"{self._what} {mean:.4g} {over}, threshold {_least(self.condition):g}"
        interval = f"95 % interval {_interval(self.own.ci)} of the {self._what} {over}"
        return side, f"{interval} {self._relation(side) if side == 'open' else f'is {self._relation(side)}'}"

    def _compare_sequence(self, mean: float, over: str) -> tuple[Side, str]:
        decision = self.decision
        if decision is None:
            return "open", (
                "the audit stopped early, and its stop rule did not watch this result, so no interval of it holds; "
                f"audit again without `stop`; mean {mean:.4g} {over}"
            )
        side: Side = decision.decided or "open"
        at = f", decided after {_images(decision.decided_at or self.own.n)}" if decision.decided else ""
        verb = self._relation(side) if side == "open" else f"is {self._relation(side)}"
        return (
            side,
            f"confidence sequence {_interval(decision.interval)} of the mean {verb}{at}; mean {mean:.4g} {over}",
        )

    @property
    def _what(self) -> str:
        match self.condition.criterion:
            case "at_least" | "at_most":
                return "mean"
            case "min_relative_change":
                return "relative change since the baseline"
            case "min_absolute_change" | "non_inferiority_margin":
                return "change since the baseline"

    def _relation(self, side: Side) -> str:
        threshold = f"{_least(self.condition):g}"
        if side == "open":
            return f"contains the threshold {threshold}, so more images are needed to decide"
        at_most = self.condition.criterion == "at_most"
        words = {(False, "met"): "at least", (False, "missed"): "below", (True, "met"): "at most"}
        return f"{words.get((at_most, side), 'above')} {threshold}"

    def _about_the_baseline(self) -> str:
        if self.change is None or self.change.baseline_mean is None:
            return ""
        other = f"; the baseline has {' and '.join(self.differences)}" if self.differences else ""
        return f"; mean of the baseline {self.change.baseline_mean:.4g}{other}"

    def _missing(self) -> str | None:
        """Return why the evidence is not enough for a pass, or None if it is enough."""
        own, least = self.own, self.condition.min_images
        in_both = "" if self.change is None else " in both audits"
        if own.n < least:
            have = "has" if own.n == 1 else "have"
            return f"only {_images(own.n)} of the {least} that `min_images` requires {have} a value{in_both}"
        if own.missing > own.n:
            return f"most images have no value{in_both}, {own.missing} of {own.n + own.missing}"
        if own.ci is None and not self.stopped_early:
            return f"the {self._what} has no interval: {own.reason}"
        return None

    def _met_at_random(self) -> str | None:
        """Return in words what knows nothing of the image and meets the condition too; None if nothing does."""
        for name, estimate in self.random:
            if estimate.mean is None or _side(self.condition, estimate, estimate.mean) != "met":
                continue
            known = "" if estimate.ci is None or estimate.expected else f", 95 % interval {_interval(estimate.ci)}"
            score = f"{self._what} {estimate.mean:.4g}{known}"
            if self.must_change:
                return f"{name} meets this too ({score}), as it always changes"
            return f"{name} meets this too ({score}), so it cannot make the verdict pass"
        return None


def judge_conditions(questions: Sequence[Question], findings: Findings) -> tuple[Judged, ...]:
    """Return the outcome of every condition; a condition without enough evidence never passes.

    Args:
        questions: The conditions, with the result that each is judged by.
        findings: What the audit found.
    """
    about = [_Subject(question, findings) for question in questions]
    changes = iter(
        () if findings.baseline is None else findings.baseline.changes([c for s in about for c in s.compared])
    )
    decisions = findings.decisions or [None] * len(questions)
    return tuple(
        _judge(subject, tuple(islice(changes, len(subject.compared))), decision)
        for subject, decision in zip(about, decisions, strict=True)
    )


class _Subject:
    """What one question is about.

    Attributes:
        result: The result; None if there is none.
        of_maps: Whether it is about the maps of an explainer, and not about the model or a random control.
        random: What random maps and random orders score in place of these maps.
        compared: What is compared with the baseline: the values of the result, then those of `random`.
    """

    def __init__(self, question: Question, findings: Findings) -> None:
        label, explainer, metric, _ = question.row
        self.question = question
        self.findings = findings
        self.check = next(check for check in findings.plan.checks if check.label == label)
        self.result = findings.results.get((question.model, question.row))
        controls = random_labels(findings.plan)
        self.of_maps = explainer is not None and explainer not in controls
        self.random: tuple[RandomScore, ...] = ()
        self.compared: tuple[Compared, ...] = ()
        if self.of_maps and self.result is not None:
            self.random = random_scores(question.model, question.row, self.check, controls[0], findings.results)
        if question.condition.needs_baseline:
            better = self.check.measured_metrics[metric].higher_is_better
            kind: ChangeKind = "relative" if question.condition.criterion == "min_relative_change" else "absolute"
            values = [() if self.result is None else self.result.per_image, *(one.values for one in self.random)]
            self.compared = tuple(Compared(question.model, question.row, own, better is True, kind) for own in values)

    @property
    def ignores_image(self) -> bool:
        """Whether the condition is on stability and the explainer's map does not depend on the image."""
        _, explainer, _, _ = self.question.row
        maps = (self.question.model, explainer)
        return self.check.question == "stability" and maps in self.findings.image_independent


def _judge(subject: _Subject, changes: Sequence[BaselineChange], decision: ConditionDecision | None) -> Judged:
    question, findings, result = subject.question, subject.findings, subject.result
    differences: tuple[str, ...] = ()
    if changes and findings.baseline is not None:
        own, *random = (_of_change(change, findings.baseline.images) for change in changes)
        differences = findings.baseline.differences(question.model, question.row)
    else:
        own = _of_result(result)
        random = [_of_score(one) for one in subject.random]
    evidence = _Evidence(
        condition=question.condition,
        own=own,
        change=changes[0] if changes else None,
        differences=differences,
        random=tuple(zip((one.name for one in subject.random), random, strict=True)),
        decision=decision,
        stopped_early=findings.stopped_early,
        ignores_image=subject.ignores_image,
        must_change=subject.check.question == "randomization",
    )
    status, message, at_random = evidence.judge()
    passed = status == "passed" and subject.of_maps
    check, explainer, metric, variant = question.row
    condition = question.condition
    outcome = ConditionOutcome(
        id=question.id,
        model=question.model,
        check=check,
        explainer=explainer,
        metric=metric,
        variant=variant,
        statistic=condition.statistic,
        min_images=condition.min_images,
        severity=condition.severity,
        comparison=condition.criterion,
        threshold=condition.threshold,
        observed=None if result is None else result.mean,
        ci=None if result is None else result.ci,
        n=own.n,
        anytime_ci=None if decision is None else decision.interval,
        change=evidence.change,
        status=status,
        message=message,
    )
    return Judged(
        outcome=outcome,
        of_maps=subject.of_maps,
        refutes_random=passed and not at_random,
        refutes_blind=passed and subject.check.question in ABOUT_THE_MODEL,
    )


def _of_result(result: Result | None) -> _Estimate:
    if result is None:
        return _Estimate(0, 0, None, None, "no image has a value")
    reason = _why_missing(result) if result.mean is None else result.ci_reason or ""
    return _Estimate(result.n, result.n_not_applicable, result.mean, result.ci, reason)


def _of_change(change: BaselineChange, images: int) -> _Estimate:
    reason = change.ci_reason or "" if change.reason is None else f"there is no change to judge: {change.reason}"
    return _Estimate(change.n, images - change.n, change.change, change.ci, reason)


def _of_score(score: RandomScore) -> _Estimate:
    found = score.summary
    return _Estimate(found.n, 0, found.mean, found.ci, found.ci_reason or "", score.expected)


def _side(condition: Condition, found: _Estimate, mean: float) -> Side:
    """Compare a mean or its interval with the threshold."""
    at_most = condition.criterion == "at_most"
    sign, least = (-1.0, -condition.threshold) if at_most else (1.0, _least(condition))
    if condition.statistic == "mean":
        return "met" if sign * mean >= least else "missed"
    if found.expected:
        # at the threshold itself, the interval of such a score contains it
        return "met" if sign * mean > least else "open"
    if found.ci is None:
        return "open"
    low, high = sorted(sign * end for end in found.ci)
    if low >= least:
        return "met"
    return "missed" if high < least else "open"


def _least(condition: Condition) -> float:
    """Return the threshold; the margin of a condition on non-inferiority lies below 0."""
    # 0 minus the margin, because the negative of 0 would be printed as -0
    return 0 - condition.threshold if condition.criterion == "non_inferiority_margin" else condition.threshold


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _interval(ends: tuple[float | None, float | None]) -> str:
    low, high = (None if end is None else f"{end:.4g}" for end in ends)
    return f"[{low or 'no bound'}, {high or 'no bound'}]"


def _why_missing(result: Result) -> str:
    reasons = sorted(set(result.reasons.values()))
    if not reasons:
        return "no image has a value"
    # a reason may name the classes of an image, so there may be thousands of different reasons
    more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    return f"no image has a value: {'; '.join(reasons[:_MOST_REASONS])}{more}"
