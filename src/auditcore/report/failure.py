"""Why an audit has no report, as a page, as JUnit XML and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final
from xml.etree import ElementTree as ET  # nosec B405 - it writes XML and parses none

from auditcore.report.junit import junit_document, legal_text
from auditcore.report.markdown import code, plain_text
from auditcore.report.page.environment import environment


@final
@dataclass(frozen=True)
class AuditFailure:
    """Why an audit has no report and will have none.

    Attributes:
        audit_id: Its id.
        state: How it ended.
        code: Stable name of the reason.
        message: What was found and how to fix it.
        field: Path of the field of the request to blame, such as `model.weights`; None if there is none.
        seconds: From its start, or from its submission if it never started, to its end.
    """

    audit_id: str
    state: Literal["failed", "cancelled"]
    code: str
    message: str
    field: str | None
    seconds: float


def render_failure_page(failure: AuditFailure) -> str:
    """A page that says why there is no report. It fetches nothing and runs nothing."""
    return environment().get_template("failure.html.j2").render(failure=failure)


def render_failure_junit(failure: AuditFailure) -> str:
    """JUnit XML with one test case in error, so that a build that expects a report breaks and shows the reason."""
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0", "time": f"{failure.seconds:.3f}"}
    suites = ET.Element("testsuites", {"name": "auditcore", **counts})
    suite = ET.SubElement(suites, "testsuite", {"name": f"audit {failure.audit_id}", **counts})
    properties = ET.SubElement(suite, "properties")
    for name, value in (("audit_id", failure.audit_id), ("state", failure.state)):
        ET.SubElement(properties, "property", {"name": name, "value": value})
    case = ET.SubElement(suite, "testcase", {"classname": "audit", "name": "the audit ends with a report"})
    case.set("time", counts["time"])
    error = ET.SubElement(case, "error", {"type": failure.code, "message": legal_text(failure.message)})
    where = "" if failure.field is None else f"{failure.field}: "
    error.text = legal_text(f"{where}{failure.message}")
    return junit_document(suites)


def render_failure_markdown(failure: AuditFailure) -> str:
    """A summary that says why there is no report."""
    where = "" if failure.field is None else f"{code(failure.field)}: "
    return (
        f"## auditcore: no verdict, the audit {'failed' if failure.state == 'failed' else 'was cancelled'}\n\n"
        f"{where}{plain_text(failure.message)}\n\n"
        f"- code: {code(failure.code)}\n"
        f"- audit: {code(failure.audit_id)}\n"
    )
