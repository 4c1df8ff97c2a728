"""Conditions as the page shows them: what is asked, what was found, a chart, and a link to the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from auditcore.contracts.metric import UNBOUNDED, Bounds
from auditcore.contracts.policy import Criterion
from auditcore.contracts.report import AuditReport, ConditionOutcome, ConditionStatus
from auditcore.report.bounds import bounds_of, kinds_of
from auditcore.report.condition_words import condition_sentence
from auditcore.report.headlines import Key, results_by_key
from auditcore.report.outcomes import judged_value, result_name
from auditcore.report.page.anchors import Anchors
from auditcore.report.page.bullet import Bullet, bullet_chart

STATUS_WORDS: Final[Mapping[ConditionStatus, str]] = {
    "failed": "✗ failed",
    "warned": "! warned",
    "inconclusive": "? inconclusive",
    "not_applicable": "\N{EN DASH} not applicable",
    "vacuous": "∅ vacuous",
    "passed": "✓ passed",
    "skipped": "\N{EN DASH} skipped",
}
"""Status -> its sign and word, in the order of the page: what needs a person comes first."""

WANTED: Final[Mapping[Criterion, str]] = {
    "at_least": "≥",
    "at_most": "≤",
    "min_absolute_change": "change ≥",
    "min_relative_change": "relative change ≥",
    "non_inferiority_margin": "change ≥ \N{MINUS SIGN}",
}
"""Criterion -> what stands before its threshold."""


@dataclass(frozen=True)
class RandomMark:
    """What something without knowledge of the image gets.

    Attributes:
        name: Such as `random map`.
        value: Its mean.
    """

    name: str
    value: float


@dataclass(frozen=True)
class ConditionRow:
    """One condition.

    Attributes:
        outcome: What the report says.
        sentence: What it asks for, in plain words.
        result: The result that it judges, such as `sweep grad_cam s_pearson rotate`.
        status: Sign and word.
        wanted: What stands before the threshold.
        random: What a map or an order without knowledge gets; None if that is unknown.
        chart: Bullet chart; None without a value.
        evidence: Id of the element that shows the result; None if there is none.
    """

    outcome: ConditionOutcome
    sentence: str
    result: str
    status: str
    wanted: str
    random: RandomMark | None
    chart: Markup | None
    evidence: str | None


def condition_rows(report: AuditReport, anchors: Anchors) -> tuple[ConditionRow, ...]:
    """All conditions: those that need a person first, those of the same status in the order of the policy."""
    order = list(STATUS_WORDS)
    ordered = sorted(report.conditions, key=lambda outcome: order.index(outcome.status))
    return tuple(_row(report, outcome, anchors) for outcome in ordered)


def _row(report: AuditReport, outcome: ConditionOutcome, anchors: Anchors) -> ConditionRow:
    random = random_mark(report, outcome)
    return ConditionRow(
        outcome=outcome,
        sentence=condition_sentence(report, outcome),
        result=result_name(outcome),
        status=STATUS_WORDS[outcome.status],
        wanted=WANTED[outcome.comparison],
        random=random,
        chart=_chart(report, outcome, random),
        evidence=anchors.evidence(_key(outcome)),
    )


def _key(outcome: ConditionOutcome) -> Key:
    return outcome.model, outcome.check, outcome.metric, outcome.variant, outcome.explainer


def random_mark(report: AuditReport, outcome: ConditionOutcome) -> RandomMark | None:
    """The floor that the report lists with the result, or what a random order of cells scores.

    Conditions on changes have none: a floor is a value, and they judge a change.
    """
    results = results_by_key(report)
    result = results.get(_key(outcome))
    if result is None or outcome.explainer is None or outcome.change is not None:
        return None
    if result.floor is not None:
        return RandomMark("random map", result.floor)
    check = next((check for check in report.plan.checks if check.label == outcome.check), None)
    order = None if check is None else check.random_order.get(outcome.metric)
    if isinstance(order, str):
        listed = results.get((outcome.model, outcome.check, order, None, outcome.explainer))
        order = None if listed is None else listed.mean
    return None if order is None else RandomMark("random order", order)


def _chart(report: AuditReport, outcome: ConditionOutcome, random: RandomMark | None) -> Markup | None:
    value, interval = judged_value(outcome)
    if value is None:
        return None
    early = report.stopping is not None and report.stopping.stopped_early
    judged_by = outcome.anytime_ci if early and outcome.anytime_ci is not None else interval
    title = f"{outcome.id}: {value:.4g}, wanted {WANTED[outcome.comparison]} {outcome.threshold:.4g}"
    if random is not None:
        title += f", {random.name} {random.value:.4g}"
    bullet = Bullet(
        mean=value,
        interval=judged_by,
        threshold=_threshold(outcome),
        accepts_above=outcome.comparison != "at_most",
        random=None if random is None else random.value,
        bounds=_bounds(report, outcome),
    )
    return bullet_chart(title, bullet)


def _threshold(outcome: ConditionOutcome) -> float:
    """Where the accepted side begins; a margin lies below 0."""
    return -outcome.threshold if outcome.comparison == "non_inferiority_margin" else outcome.threshold


def _bounds(report: AuditReport, outcome: ConditionOutcome) -> Bounds:
    return UNBOUNDED if outcome.change is not None else bounds_of(kinds_of(report.plan), outcome.check, outcome.metric)
