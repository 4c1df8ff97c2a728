"""A report as JUnit XML: every condition of the policy is a test case, as build servers expect it."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from auditcore.contracts.report import AuditReport, ConditionOutcome

ILLEGAL_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped; the name of an image or a reason might have one."""


def render_junit(report: AuditReport) -> str:
    """JUnit XML with one test case per condition; in an audit of several models, one per condition and model.

    A missed condition of severity `fail` is a failure. An inconclusive one is an error, because a build must not pass
    on it. Conditions of severity `warn` that are missed or inconclusive pass with the warning in their output, because
    JUnit has no warnings and they must not break a build. A condition without any value is skipped. Without a policy
    there are no test cases.

    Args:
        report: The audit's report.

    Returns:
        An XML document with declaration, in the dialect of Jenkins, GitLab and pytest.
    """
    seconds = f"{report.cost.seconds:.3f}"
    errors = sum(_is_error(outcome) for outcome in report.conditions)
    counts = {
        "tests": str(report.statistics.evaluated),
        "failures": str(report.statistics.failed),
        "errors": str(errors),
        "skipped": str(report.statistics.not_applicable),
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
    relation = "at least" if outcome.comparison == "at_least" else "at most"
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": legal_text(".".join(part for part in path if part is not None)),
            "name": legal_text(f"{outcome.id}: {subject} {relation} {outcome.threshold:g}"),
            "time": "0",
        },
    )
    message = legal_text(outcome.message)
    match outcome.status:
        case "failed":
            ET.SubElement(case, "failure", {"type": outcome.comparison, "message": message}).text = _detail(outcome)
        case "inconclusive" if _is_error(outcome):
            ET.SubElement(case, "error", {"type": outcome.status, "message": message}).text = _detail(outcome)
        case "not_applicable":
            ET.SubElement(case, "skipped", {"message": message})
        case "warned" | "inconclusive":
            ET.SubElement(case, "system-out").text = f"warning: {message}\n{_detail(outcome)}"
        case "passed":
            ET.SubElement(case, "system-out").text = _detail(outcome)


def _is_error(outcome: ConditionOutcome) -> bool:
    return outcome.status == "inconclusive" and outcome.severity == "fail"


def _detail(outcome: ConditionOutcome) -> str:
    interval = "" if outcome.ci is None else f", 95 % interval [{outcome.ci[0]:g}, {outcome.ci[1]:g}]"
    judged = "the interval" if outcome.statistic == "ci" else "the mean"
    observed = "nothing" if outcome.observed is None else f"{outcome.observed:g}"
    return f"mean {observed}{interval}, {outcome.n} images, threshold {outcome.threshold:g}, judged by {judged}"
