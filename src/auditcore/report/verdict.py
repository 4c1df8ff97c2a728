"""The verdict of an audit, from what became of each condition of its policy."""

from __future__ import annotations

from collections.abc import Sequence

from auditcore.contracts.policy_lint import REMEDY
from auditcore.contracts.report import ConditionOutcome, ReportStatistics, Verdict
from auditcore.report.conditions import Judged

_MOST_NAMED = 3
"""Most conditions that a reason names; the report lists all."""


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
        vacuous=by_status.count("vacuous"),
        skipped=by_status.count("skipped"),
    )


def verdict(judged: Sequence[Judged]) -> tuple[Verdict, str]:
    """Return the verdict, and its reason in one sentence.

    The verdict is the worst outcome of the conditions that count, in the order `fail`, `inconclusive`, `warn`, `pass`.
    Vacuous and skipped conditions do not count. A condition of severity `fail` that is neither met nor missed makes the
    audit inconclusive. A condition of severity `warn` that does not pass is a warning, whether it is missed,
    inconclusive or not applicable.

    `pass` and `warn` need evidence: a condition that passed. If the policy has conditions on explainers, some of those
    that passed must exclude a random map, and some must exclude a map that ignores the model: otherwise the audit has
    shown nothing about the explanations, and is inconclusive.
    """
    if not judged:
        return "not_evaluated", "The request has no policy."
    outcomes = [one.outcome for one in judged]
    failed = [one for one in outcomes if one.status == "failed"]
    if failed:
        return "fail", f"{_share(failed, outcomes)} failed: {_names(failed)}."
    undecided = [one for one in outcomes if one.status in {"inconclusive", "not_applicable"}]
    blocking = [one for one in undecided if one.severity == "fail"]
    if blocking:
        decided = f"{_share(blocking, outcomes)} could not be decided: {_names(blocking)}"
        return "inconclusive", f"No condition failed, but {decided}."
    lack = _lack_of_evidence(judged)
    if lack is not None:
        return "inconclusive", f"No condition failed, but {lack}.{_not_counted(outcomes)}"
    warnings = [one for one in outcomes if one.status == "warned" or one in undecided]
    if warnings:
        return "warn", f"No condition failed, but {_share(warnings, outcomes)} led to a warning: {_names(warnings)}."
    passed = [one for one in outcomes if one.status == "passed"]
    return "pass", f"{_share(passed, outcomes)} passed.{_not_counted(outcomes)}"


def _lack_of_evidence(judged: Sequence[Judged]) -> str | None:
    """Return what the passed conditions do not show, and how to fix it; None if they show enough."""
    on_maps = [one for one in judged if one.of_maps]
    passed = [one for one in on_maps or judged if one.outcome.status == "passed"]
    if not passed:
        return f"no condition{' on an explainer' if on_maps else ''} passed, so the audit has shown nothing"
    if not on_maps:
        return None
    if not any(one.refutes_blind for one in passed):
        return f"a map that ignores the model can meet every condition that passed; {REMEDY}"
    if not any(one.refutes_random for one in passed):
        return "a random map meets every condition that passed; add a condition on faithfulness or stability"
    return None


def _not_counted(outcomes: Sequence[ConditionOutcome]) -> str:
    """Return a sentence on the conditions that do not count; empty if all count."""
    vacuous = [one for one in outcomes if one.status == "vacuous"]
    skipped = [one for one in outcomes if one.status == "skipped"]
    found = [
        *([f"{_names(vacuous)}, which a random map meets too"] if vacuous else []),
        *([f"{_names(skipped)}, which had no value and may be skipped"] if skipped else []),
    ]
    return f" Not counted: {'; '.join(found)}." if found else ""


def _share(some: Sequence[ConditionOutcome], every: Sequence[ConditionOutcome]) -> str:
    return f"{len(some)} of {len(every)} condition{'' if len(every) == 1 else 's'}"


def _names(outcomes: Sequence[ConditionOutcome]) -> str:
    """Return the first conditions by id, with what a pattern matched."""
    named = [" of ".join(part for part in (one.id, one.explainer, one.model) if part) for one in outcomes]
    distinct = list(dict.fromkeys(named))
    more = f" and {len(distinct) - _MOST_NAMED} more" if len(distinct) > _MOST_NAMED else ""
    return f"{', '.join(distinct[:_MOST_NAMED])}{more}"
