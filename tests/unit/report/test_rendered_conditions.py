"""How the page, JUnit and the terminal show vacuous and skipped conditions, changes, and the reason of a verdict."""

from __future__ import annotations

import html
import io
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

import made_up_audits as made_up
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.report.gate import reevaluate
from auditcore.report.junit import render_junit
from auditcore.report.page.html import render_html
from auditcore_service.cli.report_view import show_report

SPREAD = np.linspace(-0.02, 0.02, 10)


def condition(**changes: object) -> Condition:
    fields = {"check": "deletion", "explainer": "gradient", "metric": "srg"}
    return Condition.model_validate(fields | changes)


VACUOUS = condition(id="too_easy", at_least=-0.5)
SKIPPED = condition(id="absent", metric="lerf_auc", at_least=0.1, on_not_applicable="skip")
CHANGES = (
    condition(id="better", min_absolute_change=0.05),
    condition(id="much_better", min_relative_change=0.5),
    condition(id="not_worse", non_inferiority_margin=0.02),
)


def audit(mean: float) -> AuditReport:
    row = made_up.row("gradient", (mean + SPREAD).round(5).tolist())
    return made_up.report(made_up.shard(None, {i: [1] for i in range(10)}, row))


@pytest.fixture(scope="module")
def undecided() -> AuditReport:
    return reevaluate(audit(0.4), (VACUOUS, SKIPPED))


@pytest.fixture(scope="module")
def changed() -> AuditReport:
    before = audit(0.3)
    plan = before.plan.model_copy(update={"seed": 9})
    digest = made_up.digest(0)
    assert before.model is not None
    other = before.model.model_copy(update={"digest": digest})
    wobble = before.results[0].per_image
    rows = before.results[0].model_copy(update={"per_image": tuple((v or 0) + 0.001 * (i % 3)
                                                                   for i, v in enumerate(wobble))})  # fmt: skip
    baseline = before.model_copy(update={"plan": plan, "model": other, "audit_id": "earlier", "results": (rows,)})
    return reevaluate(audit(0.4), CHANGES, baseline=baseline)


def text(report: AuditReport) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", render_html(report))))


def test_the_page_shows_the_reason_and_the_new_statuses(undecided: AuditReport) -> None:
    page = text(undecided)
    assert undecided.verdict_reason is not None
    assert undecided.verdict_reason in page
    assert "∅ vacuous" in page
    assert "\N{EN DASH} skipped" in page
    assert "a random order meets this too (mean 0), so it cannot make the verdict pass" in page
    # earlier reports have no reason
    old = text(undecided.model_copy(update={"verdict_reason": None}))
    assert "No condition of severity fail was missed, but the images do not show that all of them are met." in old


def test_junit_has_an_error_for_an_inconclusive_verdict_that_no_condition_explains(undecided: AuditReport) -> None:
    suites = ET.fromstring(render_junit(undecided))  # noqa: S314 - made by the line itself
    assert {key: suites.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3", "failures": "0", "errors": "1", "skipped": "2"
    }  # fmt: skip
    cases = suites.findall(".//testcase")
    assert [(case.get("name"), [child.tag for child in case]) for case in cases] == [
        ("too_easy: srg at least -0.5", ["skipped"]),
        ("absent: lerf_auc at least 0.1", ["skipped"]),
        ("verdict", ["error"]),
    ]
    error = cases[-1].find("error")
    assert error is not None
    assert error.get("message") == undecided.verdict_reason
    properties = {one.get("name"): one.get("value") for one in suites.findall(".//property")}
    assert properties["verdict_reason"] == undecided.verdict_reason
    # a failed verdict is explained by its conditions
    failed = reevaluate(undecided, (VACUOUS, condition(at_least=0.9)))
    assert [case.get("name") for case in ET.fromstring(render_junit(failed)).iter("testcase")] == [  # noqa: S314
        "too_easy: srg at least -0.5", "1: srg at least 0.9"
    ]  # fmt: skip


def test_changes_are_shown_with_their_interval_and_what_differs(changed: AuditReport) -> None:
    page = text(changed)
    assert [one.status for one in changed.conditions] == ["passed", "failed", "passed"]
    assert "change ≥ 0.05" in page
    assert "relative change ≥ 0.5" in page
    assert "change ≥ \N{MINUS SIGN} 0.02" in page
    assert "relative to audit earlier, over 10 shared images" in page
    assert "That audit has seed 9 instead of 3." in page
    first = changed.conditions[0].change
    assert first is not None
    assert first.change == pytest.approx(0.1, abs=0.002)
    names = [case.get("name") for case in ET.fromstring(render_junit(changed)).iter("testcase")]  # noqa: S314
    assert names == [
        "better: srg changes by at least 0.05",
        "much_better: srg changes relatively by at least 0.5",
        "not_worse: srg is worse by at most 0.02",
    ]
    assert f"change {first.change:g}, 95 % interval [" in render_junit(changed)


def test_the_terminal_shows_the_reason(undecided: AuditReport, changed: AuditReport) -> None:
    for report, wanted in (
        (undecided, ("vacuous", "skipped")),
        (changed, ("change >= 0.05", "relative change >= 0.5")),
    ):
        stream = io.StringIO()
        show_report(report, Console(file=stream, width=200, color_system=None))
        shown = stream.getvalue()
        assert report.verdict_reason is not None
        assert " ".join(report.verdict_reason.split()) in " ".join(shown.split())
        for part in wanted:
            assert part in shown
