"""The gate: a policy and the results of an audit become outcomes, a verdict and its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition, Question, questions_of, validate_policy
from auditcore.contracts.report import (
    AuditReport,
    ConditionDecision,
    ConditionOutcome,
    ReportBaseline,
    ReportModel,
    ReportStatistics,
    Result,
    Verdict,
)
from auditcore.report.baseline import Baseline, digests_of, require_comparable
from auditcore.report.conditions import Findings, judge_conditions
from auditcore.report.result_keys import result_key
from auditcore.report.verdict import count, verdict
from auditcore.report.warnings import image_independent


@final
@dataclass(frozen=True)
class Judgment:
    """What a policy makes of an audit; the fields are those of the report."""

    conditions: tuple[ConditionOutcome, ...]
    statistics: ReportStatistics
    verdict: Verdict
    verdict_reason: str
    baseline: ReportBaseline | None


def judge(
    policy: Sequence[Condition],
    plan: AuditPlan,
    *,
    models: Sequence[ReportModel],
    results: Sequence[Result],
    controls: Sequence[Result],
    digests: Sequence[str],
    decisions: Sequence[ConditionDecision | None] = (),
    stopped_early: bool = False,
    baseline: AuditReport | None = None,
) -> Judgment:
    """Judge a policy by the results of an audit.

    Args:
        policy: The conditions.
        plan: The full plan.
        models: The models of the audit.
        results: Results of all models.
        controls: Results of controls; conditions may be on the random control.
        digests: Digest of each image, in the order of the results' values.
        decisions: Decision of a stop rule on each condition and model; None where it has none. Empty without a rule.
        stopped_early: Whether the rule ended the audit early. Its confidence sequences are then the intervals.
        baseline: The earlier report that changes are relative to.

    Raises:
        InvalidRequest: A condition names what the audit does not have, or the baseline has other models.
    """
    names = [model.name for model in models if model.name is not None]
    questions = questions_of(policy, plan, names)
    earlier = None if baseline is None else Baseline(baseline, plan=plan, models=models, digests=digests)
    judged = judge_conditions(
        questions,
        Findings(
            plan=plan,
            results={result_key(one): one for one in (*results, *controls)},
            image_independent=image_independent(controls),
            decisions=decisions,
            stopped_early=stopped_early,
            baseline=earlier,
        ),
    )
    outcomes = tuple(one.outcome for one in judged)
    found, reason = verdict(judged)
    return Judgment(outcomes, count(outcomes), found, reason, None if earlier is None else earlier.describe())


def reevaluate(report: AuditReport, policy: Sequence[Condition], *, baseline: AuditReport | None = None) -> AuditReport:
    """Judge a finished audit by another policy. No model runs, and no number of the results changes.

    After an audit that a stop rule ended early, only the confidence sequences of its own policy hold. A condition on
    another result of such an audit is inconclusive.

    Args:
        report: The report of the audit.
        policy: The conditions.
        baseline: An earlier report on the same images, for conditions on changes.

    Returns:
        A copy with other `conditions`, `statistics`, `verdict`, `verdict_reason` and `baseline`.

    Raises:
        InvalidRequest: As by `validate_policy`, or the baseline has other images or models.
    """
    models = report.audited_models
    names = [model.name for model in models if model.name is not None]
    validate_policy(policy, report.plan, names, baseline=baseline is not None)
    if baseline is not None:
        require_comparable(
            baseline,
            models=[model.name for model in models],
            images=digests_of(report.images),
            unseen=report.images.not_examined,
        )
    found = judge(
        policy,
        report.plan,
        models=models,
        results=report.results,
        controls=report.controls,
        digests=[item.digest for item in report.images.items],
        decisions=_decisions(report, policy, names),
        stopped_early=report.stopping is not None and report.stopping.stopped_early,
        baseline=baseline,
    )
    return report.model_copy(update={name: getattr(found, name) for name in Judgment.__dataclass_fields__})


def _decisions(
    report: AuditReport, policy: Sequence[Condition], models: Sequence[str]
) -> tuple[ConditionDecision | None, ...]:
    """Return what the confidence sequences of a report say about another policy; empty without a stop rule.

    A sequence of a mean holds for every threshold at once, so it also decides on thresholds that no condition had.
    """
    if report.stopping is None:
        return ()
    known = list(zip(report.conditions, report.stopping.decisions, strict=True))
    found: list[ConditionDecision | None] = []
    for question in questions_of(policy, report.plan, models):
        condition = question.condition
        watched = [pair for pair in known if result_key(pair[0]) == (question.model, question.row)]
        same = [
            decision
            for outcome, decision in watched
            if (outcome.comparison, outcome.threshold) == (condition.criterion, condition.threshold)
        ]
        if condition.needs_baseline or not watched:
            found.append(None)
        elif same:
            found.append(same[0].model_copy(update={"condition": question.id}))
        else:
            found.append(_decision(question, watched[0][1], report.stopping.images_used))
    return tuple(found)


def _decision(question: Question, known: ConditionDecision, images: int) -> ConditionDecision:
    """Return what a confidence sequence over some images says about another threshold."""
    low, high = known.interval
    threshold = question.condition.threshold
    above = low is not None and low >= threshold
    below = high is not None and high <= threshold
    decided: Literal["met", "missed"] | None = None
    if question.condition.criterion == "at_least":
        decided = "met" if above else "missed" if below and high != threshold else None
    else:
        decided = "met" if below else "missed" if above and low != threshold else None
    return known.model_copy(
        update={"condition": question.id, "decided": decided, "decided_at": images if decided else None}
    )
