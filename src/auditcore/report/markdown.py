"""A report as a short summary in Markdown, for a comment on a merge request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from auditcore.contracts.report import AuditReport, ConditionOutcome, Result
from auditcore.report.decision import decision_sentence
from auditcore.report.headlines import interval_text, number_text
from auditcore.report.outcomes import judged_value, result_name, wanted_text
from auditcore.report.worst_images import RankedImage, worst_first

MOST_ROWS = 50
"""Conditions in the table. GitHub takes comments of 65 536 characters; 50 rows with their messages have a third."""

MOST_IMAGES = 5
"""Images that a person is sent to; who has looked at them opens the page for more."""

_MOST_NAME_CHARACTERS = 80
"""Characters of the name of an image or a class; a longer one pushes the other columns out of sight."""

_MOST_CHARACTERS = 300
"""Characters of a message; a reason may list the names of many classes. The report has the whole text."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")
# control characters, ends of lines, and characters that turn the direction of the text behind them
_ILLEGAL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")
# signs that GitHub and GitLab make links of before a word, however they are escaped, and addresses without a scheme
_REFERENCE = re.compile(r"([#!~%$^](?=\w)|www(?=\.))", re.IGNORECASE)
# at the beginning of a line these make a list, a heading of the line before, or a command of GitLab
_BEGINNING = re.compile(r"^(\d*)([-+=/.)])")


def render_markdown(report: AuditReport, page: str | None = None) -> str:
    """Verdict, what decided it, a table of the conditions, the images to look at, and what was audited.

    Conditions that did not pass come first. The table has at most 50 rows; a line below it counts the others.

    Args:
        report: The audit's report.
        page: URL of the page of the audit, for a link; no link if None, or if it is no http(s) URL.

    Returns:
        Markdown as GitHub and GitLab render it. Text of the request cannot break the table, add HTML or name a person.
    """
    ordered = sorted(report.conditions, key=lambda outcome: outcome.status == "passed")
    shown = ordered[:MOST_ROWS]
    parts = [
        f"## auditcore: {report.verdict.replace('_', ' ')}",
        *map(plain_text, _decided(report)),
        _link(page),
        _conditions(shown),
        _left_out(ordered[MOST_ROWS:]),
        "\n".join(_messages(shown)),
        _images_to_look_at(report),
        "\n".join(_audited(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain_text(text: str) -> str:
    """Text on one line that Markdown shows as it is, without links, HTML or the mention of a person or an issue."""
    line = _SPECIAL.sub(r"\\\1", _ILLEGAL.sub(" ", text)).replace("://", ":\u200b//")
    line = _BEGINNING.sub("\\1\u200b\\2", _REFERENCE.sub("\\1\u200b", line).strip())
    # a name after @ becomes a mention, however the @ is escaped
    return line.replace("@", "@\u200b")


def code(text: str) -> str:
    """Text as code; backticks and bars are replaced, because a cell of a table cannot hold them as code."""
    line = _ILLEGAL.sub(" ", text).replace("`", "'").replace("|", "\N{BROKEN BAR}")
    # two backticks with nothing between them begin a longer piece of code
    return f"`{line or ' '}`"


def _decided(report: AuditReport) -> Iterator[str]:
    """What decided the verdict, and its reason unless that says the same."""
    sentence, reason = decision_sentence(report), report.verdict_reason or ""
    yield sentence
    if reason.lower() not in sentence.lower():
        yield reason


def _link(page: str | None) -> str:
    # in angle brackets a destination ends only at > or at the end of a line
    if page is None or not re.fullmatch(r"https?://[^\s<>\\]+", page):
        return ""
    return f"[Open the audit](<{page}>)"


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


def _images_to_look_at(report: AuditReport) -> str:
    """The worst images of all models, with the value that makes each of them bad."""
    ranked = [
        (model.name, image)
        for model in report.audited_models
        for image in worst_first(report, model.name)
        if image.badness is not None
    ]
    worst = sorted(ranked, key=lambda one: -(one[1].badness or 0.0))[:MOST_IMAGES]
    rows = [_image_row(report, model, image) for model, image in worst]
    if not rows:
        return ""
    table = [("Image", "Class", "Value", "Of"), ("---", "---", "---:", "---"), *rows]
    return "### Images to look at\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in table)


def _image_row(report: AuditReport, model: str | None, ranked: RankedImage) -> tuple[str, ...]:
    image = ranked.image
    explained = image.by_model.get(model or "", ())
    target = explained[0].target if explained else image.target
    name = report.images.class_names.get(target)
    value = "-" if ranked.value is None else number_text(ranked.value, abs(ranked.value))
    return (
        code(_short(image.name)) if image.name else f"image {image.index} of the batch",
        f"class {target}" if name is None else code(_short(name)),
        value,
        "-" if ranked.worst is None else code(_name_of(ranked.worst)),
    )


def _name_of(result: Result) -> str:
    parts = (result.model, result.check, result.explainer, result.metric, result.variant)
    return " ".join(part for part in parts if part is not None)


def _short(name: str) -> str:
    """A name with its middle left out if it is long: the end has the number of a file."""
    if len(name) <= _MOST_NAME_CHARACTERS:
        return name
    half = _MOST_NAME_CHARACTERS // 2
    return f"{name[:half]}…{name[1 - half :]}"


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
