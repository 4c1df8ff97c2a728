"""A report as JUnit XML: every condition of the policy is a test case, as build servers expect it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET  # nosec B405 - it writes XML and parses none

from auditcore.contracts.policy import Criterion
from auditcore.contracts.report import AuditReport, BaselineChange, ConditionOutcome

ILLEGAL_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped; the name of an image or a reason might have one."""

RELATIONS: Mapping[Criterion, str] = {
    "at_least": "at least",
    "at_most": "at most",
    "min_absolute_change": "changes by at least",
    "min_relative_change": "changes relatively by at least",
    "non_inferiority_margin": "is worse by at most",
}
"""How the name of a test case writes a criterion."""


def render_junit(report: AuditReport) -> str:
    """JUnit XML with one test case per condition; in an audit of several models, one per condition and model.

    A failed condition is a failure. An inconclusive one of severity `fail` is an error, because a build must not pass
    on it. Conditions that only warn pass with the warning in their output, because JUnit has no warnings and they must
    not break a build. A condition without any value, or that a random map meets too, is skipped. If the verdict is
    inconclusive and no condition is an error, a test case `verdict` is one. Without a policy there are no test cases.

    Args:
        report: The audit's report.

    Returns:
        An XML document with declaration, in the dialect of Jenkins, GitLab and pytest.
    """
    seconds = f"{report.cost.seconds:.3f}"
    errors = sum(_is_error(outcome) for outcome in report.conditions)
    undecided = report.verdict == "inconclusive" and errors == 0
    found = report.statistics
    counts = {
        "tests": str(found.evaluated + undecided),
        "failures": str(found.failed),
        "errors": str(errors + undecided),
        "skipped": str(found.not_applicable + found.skipped + found.vacuous),
        "time": seconds,
    }
    suites = ET.Element("testsuites", {"name": "auditcore", **counts})
    suite = ET.SubElement(suites, "testsuite", {"name": f"audit {report.audit_id}", **counts})
    if report.manifest.started_at is not None:
        suite.set("timestamp", report.manifest.started_at)
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("audit_id", report.audit_id),
        ("verdict", report.verdict),
        *(() if report.verdict_reason is None else (("verdict_reason", report.verdict_reason),)),
        *(
            ("model_digest" if model.name is None else f"model_digest.{model.name}", model.digest)
            for model in report.audited_models
        ),
        ("images_digest", report.images.digest),
        ("plan_digest", report.manifest.plan_digest),
        ("schema_version", schema_version_of(report)),
        *(() if report.stopping is None else (("stopping", report.stopping.reason),)),
    ):
        ET.SubElement(properties, "property", {"name": name, "value": legal_text(value)})
    for outcome in report.conditions:
        _add_case(suite, outcome)
    if undecided:
        case = ET.SubElement(suite, "testcase", {"classname": "verdict", "name": "verdict", "time": "0"})
        message = legal_text(report.verdict_reason or "the verdict is inconclusive")
        ET.SubElement(case, "error", {"type": report.verdict, "message": message})
    return junit_document(suites)


def junit_document(suites: ET.Element) -> str:
    """The text of a document, indented, with its declaration."""
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def legal_text(text: str) -> str:
    """The text with a replacement for each character that XML cannot hold."""
    return ILLEGAL_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def schema_version_of(report: AuditReport) -> str:
    """The schema version by which the audit was reported; it defines the numbers."""
    return report.schema_version if report.upgraded_from is None else report.upgraded_from.schema_version


def _add_case(suite: ET.Element, outcome: ConditionOutcome) -> None:
    subject = outcome.metric if outcome.variant is None else f"{outcome.metric}[{outcome.variant}]"
    path = (outcome.model, outcome.check, outcome.explainer or "model")
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": legal_text(".".join(part for part in path if part is not None)),
            "name": legal_text(f"{outcome.id}: {subject} {RELATIONS[outcome.comparison]} {outcome.threshold:g}"),
            "time": "0",
        },
    )
    message = legal_text(outcome.message)
    match outcome.status:
        case "failed":
            ET.SubElement(case, "failure", {"type": outcome.comparison, "message": message}).text = _detail(outcome)
        case "inconclusive" if _is_error(outcome):
            ET.SubElement(case, "error", {"type": outcome.status, "message": message}).text = _detail(outcome)
        case "not_applicable" | "skipped" | "vacuous":
            ET.SubElement(case, "skipped", {"message": message})
        case "warned" | "inconclusive":
            ET.SubElement(case, "system-out").text = f"warning: {message}\n{_detail(outcome)}"
        case "passed":
            ET.SubElement(case, "system-out").text = _detail(outcome)


def _is_error(outcome: ConditionOutcome) -> bool:
    return outcome.status == "inconclusive" and outcome.severity == "fail"


def _detail(outcome: ConditionOutcome) -> str:
    interval = "" if outcome.ci is None else f", 95 % interval [{outcome.ci[0]:g}, {outcome.ci[1]:g}]"
    change = "" if outcome.change is None else _change(outcome.change)
    judged = "the interval" if outcome.statistic == "ci" else "the mean"
    observed = "nothing" if outcome.observed is None else f"{outcome.observed:g}"
    threshold = f"threshold {outcome.threshold:g}, judged by {judged}"
    return f"mean {observed}{interval}{change}, {outcome.n} images, {threshold}"


def _change(found: BaselineChange) -> str:
    kind = "relative change" if found.kind == "relative" else "change"
    interval = "" if found.ci is None else f", 95 % interval [{found.ci[0]:g}, {found.ci[1]:g}]"
    return f", {kind} unknown" if found.change is None else f", {kind} {found.change:g}{interval}"
