"""A report as a short summary in Markdown, for a comment on a merge request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.report.headlines import interval_text
from auditcore.report.outcomes import judged_value, result_name, wanted_text

MOST_ROWS = 50
"""Conditions in the table. GitHub takes comments of 65 536 characters; 50 rows with their messages have a third."""

_MOST_CHARACTERS = 300
"""Characters of a message; a reason may list the names of many classes. The report has the whole text."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")
_ILLEGAL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")


def render_markdown(report: AuditReport) -> str:
    """Verdict, its reason, a table of the conditions, and what was audited.

    Conditions that did not pass come first. The table has at most 50 rows; a line below it counts the others.

    Args:
        report: The audit's report.

    Returns:
        Markdown as GitHub and GitLab render it. Text of the request cannot break the table, add HTML or name a person.
    """
    ordered = sorted(report.conditions, key=lambda outcome: outcome.status == "passed")
    shown = ordered[:MOST_ROWS]
    parts = [
        f"## auditcore: {report.verdict.replace('_', ' ')}",
        plain_text(report.verdict_reason or ""),
        _conditions(shown),
        _left_out(ordered[MOST_ROWS:]),
        "\n".join(_messages(shown)),
        "\n".join(_audited(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain_text(text: str) -> str:
    """Text on one line that Markdown shows as it is, without links, HTML or the mention of a person."""
    line = _SPECIAL.sub(r"\\\1", _ILLEGAL.sub(" ", text)).replace("://", ":\u200b//")
    # a name after @ becomes a mention, however the @ is escaped
    return line.replace("@", "@\u200b")


def code(text: str) -> str:
    """Text as code; backticks and bars are replaced, because a cell of a table cannot hold them as code."""
    line = _ILLEGAL.sub(" ", text).replace("`", "'").replace("|", "\N{BROKEN BAR}")
    return f"`{line}`"


def _conditions(outcomes: Sequence[ConditionOutcome]) -> str:
    if not outcomes:
        return ""
    rows = [
        ("Condition", "Status", "Value", "95 % interval", "Wanted", "Images"),
        ("---", "---", "---:", "---:", "---", "---:"),
        *(_row(outcome) for outcome in outcomes),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(outcome: ConditionOutcome) -> tuple[str, ...]:
    value, interval = judged_value(outcome)
    return (
        code(outcome.id) + "<br>" + code(result_name(outcome)),
        outcome.status.replace("_", " "),
        "-" if value is None else f"{value:.4g}",
        interval_text(interval) or "-",
        f"{wanted_text(outcome)}{'' if outcome.severity == 'fail' else ' (warns)'}",
        str(outcome.n),
    )


def _left_out(outcomes: Sequence[ConditionOutcome]) -> str:
    if not outcomes:
        return ""
    open_ = sum(outcome.status != "passed" for outcome in outcomes)
    return f"{len(outcomes)} more conditions are in the report; {open_} of them did not pass."


def _messages(outcomes: Sequence[ConditionOutcome]) -> Iterator[str]:
    for outcome in outcomes:
        if outcome.status != "passed":
            message = outcome.message
            cut = message if len(message) <= _MOST_CHARACTERS else f"{message[: _MOST_CHARACTERS - 1]}…"
            yield f"- {code(outcome.id)}, {code(result_name(outcome))}: {plain_text(cut)}"


def _audited(report: AuditReport) -> Iterator[str]:
    """One line for each thing that the verdict rests on, with its digest."""
    yield f"- images: {report.images.used} of {report.images.count}, {code(report.images.digest)}"
    for model in report.audited_models:
        name = "" if model.name is None else f" {code(model.name)}"
        untrained = "" if model.trained else ", **untrained weights**"
        signed = "" if model.signature is None else f", signed by key {code(model.signature.key)}"
        yield f"- model{name}: {code(model.digest)}{untrained}{signed}"
    preset = "" if report.manifest.preset is None else f"preset {code(report.manifest.preset)}, "
    yield f"- plan: {preset}{code(report.manifest.plan_digest)}"
    if report.policy is not None:
        yield f"- policy: {code(f'{report.policy.name}@{report.policy.version}')}, {code(report.policy.digest)}"
    if report.baseline is not None:
        earlier = report.baseline
        other = "".join(f"; {plain_text(difference)}" for difference in earlier.differences)
        yield f"- baseline: audit {code(earlier.audit_id)}, {earlier.shared_images} images in both{other}"
    if report.baseline_model is not None:
        yield f"- model of the baseline, whose maps were compared: {code(report.baseline_model.digest)}"
    yield f"- audit: {code(report.audit_id)}"
