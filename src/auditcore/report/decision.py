"""The outcome of an audit in one sentence that a person without time understands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.report.headlines import number_text
from auditcore.report.outcomes import judged_value, wanted_text

MOST_NAMED = 2
"""Conditions that the sentence names; the others are counted."""


def decision_sentence(report: AuditReport) -> str:
    """What decided the verdict, with the values that did.

    Such as "Passed with 1 warning: gradient_stable_under_rotation is 0.33, wanted at least 0.8."

    Args:
        report: The audit's report.

    Returns:
        One sentence. The conditions that decided are those of the worst status that the verdict follows from; at most
        two are named with their values, the others counted. Where no condition decided, it is the reason of the
        verdict.
    """
    conditions = report.conditions
    match report.verdict:
        case "not_evaluated":
            return "Not judged: the request names no policy."
        case "pass":
            return _passed(report)
        case "fail":
            found = [one for one in conditions if one.status == "failed"]
            return f"Failed {_count(found, 'condition')}: {_named(found)}."
        case "warn":
            found = [one for one in conditions if one.status in {"warned", "inconclusive", "not_applicable"}]
            return f"Passed with {_count(found, 'warning')}: {_named(found)}."
        case "inconclusive":
            found = [
                one for one in conditions if one.status in {"inconclusive", "not_applicable"} and one.severity == "fail"
            ]
            if found:
                return f"Not decided: {_named(found)}."
            return (
                f"Not decided: {_lower_first(report.verdict_reason or 'the conditions that were met show too little.')}"
            )


def _passed(report: AuditReport) -> str:
    counted = report.statistics.passed
    other = report.statistics.vacuous + report.statistics.skipped
    beside = f"; {other} more {'does' if other == 1 else 'do'} not count" if other else ""
    if counted == 1:
        return f"Passed: the condition is met{beside}."
    return f"Passed: all {counted} conditions are met{beside}."


def _count(found: Sequence[ConditionOutcome], noun: str) -> str:
    return f"{len(found)} {noun}{'' if len(found) == 1 else 's'}"


def _named(found: Sequence[ConditionOutcome]) -> str:
    ids = Counter((outcome.id, outcome.model) for outcome in found)
    named = "; ".join(_told(one, repeated=ids[one.id, one.model] > 1) for one in found[:MOST_NAMED])
    more = len(found) - MOST_NAMED
    return f"{named}; and {more} more" if more > 0 else named


def _told(outcome: ConditionOutcome, *, repeated: bool) -> str:
    """A condition with its value and what was wanted, such as `stable is 0.33, wanted at least 0.8`."""
    # a condition without a name has a number, and a number before a number reads as nonsense
    name = f"condition {outcome.id}" if outcome.id.isdecimal() else outcome.id
    # a condition with a pattern has many outcomes with the same name, which only these tell apart
    explainer = "" if outcome.explainer is None or not repeated else f" ({outcome.explainer})"
    of = " of ".join(part for part in (f"{name}{explainer}", outcome.model) if part)
    value, interval = judged_value(outcome)
    if value is None:
        return f"{of} has no value"
    shown = number_text(value, abs(value))
    if outcome.change is not None:
        shown = f"changed by {shown}"
        wanted = f"wanted: {wanted_text(outcome)}"
    else:
        shown = f"is {shown}"
        wanted = f"wanted {wanted_text(outcome)}"
    if outcome.status == "inconclusive" and outcome.n < outcome.min_images:
        return f"{of} {shown}, {wanted}, but over {outcome.n} of the {outcome.min_images} images it needs"
    if outcome.status == "inconclusive" and interval is not None:
        size = max(abs(end) for end in interval)
        low, high = (number_text(end, size) for end in interval)
        return f"{of} {shown}, {wanted}, but may lie between {low} and {high}"
    return f"{of} {shown}, {wanted}"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
