"""A report as Markdown for a merge request, and as SARIF; and its own conditions, to judge it again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from markdown_it import MarkdownIt

from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.report.failure import AuditFailure, render_failure_markdown
from auditcore.report.markdown import MOST_ROWS, plain_text, render_markdown
from auditcore.report.policy import conditions_of
from auditcore.report.sarif import render_sarif
from made_up_audits import report as made_up
from made_up_audits import row, shard

HOSTILE = "<script>alert(1)</script> | `rm` @everyone [x](https://evil.example)\n# title *b* ![i](http://a/b)"
GOOD, BAD = [0.5 + index / 100 for index in range(10)], [-0.5 - index / 100 for index in range(10)]


def condition(**changes: Any) -> Condition:
    fields = {"check": "deletion", "explainer": "grad_cam", "metric": "srg", "at_least": 0.1}
    return Condition.model_validate(fields | changes)


CONDITIONS = (
    condition(id="met"),
    condition(id="missed", explainer="gradient"),
    condition(id="advice", explainer="gradient", severity="warn"),
    condition(id="open", at_least=0.54),
    condition(id="open_advice", at_least=0.54, severity="warn"),
    condition(id="nothing", explainer="input_x_gradient"),
    condition(id="skipped", explainer="input_x_gradient", on_not_applicable="skip"),
)


@pytest.fixture
def report() -> AuditReport:
    """A condition of every status but vacuous, of a policy with a name."""
    policy = PolicyDocument(name="scans", version="2", conditions=CONDITIONS)
    return audited(policy)


def audited(policy: PolicyDocument | tuple[Condition, ...]) -> AuditReport:
    images = {index: [1] for index in range(10)}
    none = row("input_x_gradient", [None] * 10, reasons=dict.fromkeys(range(10), HOSTILE))
    return made_up(shard(None, images, row("grad_cam", GOOD), row("gradient", BAD), none), policy=policy)


def html_of(markdown: str) -> str:
    """As GitHub and GitLab draw it, but with any HTML of the text left in, to see whether there is any."""
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def rows_of(markdown: str) -> list[list[str]]:
    """Rows of the table of conditions; the images to look at have a table of their own below it."""
    conditions, *_ = html_of(markdown).split("<h3>")
    cells = re.findall(r"<tr>(.*?)</tr>", conditions, re.DOTALL)
    return [
        [re.sub("<.*?>", " ", cell).strip() for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", one)] for one in cells
    ]


def test_the_report_names_its_policy(report: AuditReport) -> None:
    policy = PolicyDocument(name="scans", version="2", conditions=CONDITIONS)
    assert report.policy is not None
    assert (report.policy.name, report.policy.version, report.policy.digest) == ("scans", "2", policy.digest)
    assert audited(CONDITIONS).policy is None
    assert "policy" not in audited(CONDITIONS).model_dump()


def test_the_summary_has_a_row_for_each_condition_those_that_passed_last(report: AuditReport) -> None:
    head, *rows = rows_of(render_markdown(report))
    assert head == ["Condition", "Status", "Value", "95 % interval", "Wanted", "Images"]
    assert [(one[0].split()[0], one[1]) for one in rows] == [
        ("missed", "failed"),
        ("advice", "warned"),
        ("open", "inconclusive"),
        ("open_advice", "inconclusive"),
        ("nothing", "not applicable"),
        ("skipped", "skipped"),
        ("met", "passed"),
    ]
    assert rows[-1][2:] == ["0.545", rows[-1][3], "at least 0.1", "10"]
    assert re.fullmatch(r"\[0\.5\d+, 0\.5\d+\]", rows[-1][3])
    assert rows[1][4] == "at least 0.1 (warns)"
    assert rows[4][2:4] == ["-", "-"]


def test_the_summary_says_what_the_verdict_rests_on(report: AuditReport) -> None:
    text = render_markdown(report)
    assert text.startswith("## auditcore: fail\n\nFailed 1 condition: missed is -0.545, wanted at least 0.1.\n\n")
    assert report.verdict_reason is not None
    assert plain_text(report.verdict_reason) in text
    assert report.model is not None
    assert report.policy is not None
    for digest in (report.model.digest, report.images.digest, report.manifest.plan_digest, report.policy.digest):
        assert f"`{digest}`" in text
    assert "`scans@2`" in text
    assert "10 of 10" in text


def test_no_text_of_a_request_can_draw_anything(report: AuditReport) -> None:
    text = render_markdown(report)
    page = html_of(text)
    allowed = {"h2", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "ul", "li", "br", "h3"}
    assert set(re.findall(r"<(\w+)", page)) == allowed
    assert "@everyone" not in page
    assert "https://" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert len(rows_of(text)) == len(CONDITIONS) + 1


def test_a_long_policy_gives_a_short_summary() -> None:
    many = tuple(condition(id=f"c{index}", at_least=0.54 if index % 2 else 0.1) for index in range(120))
    text = render_markdown(audited(many))
    assert len(rows_of(text)) == MOST_ROWS + 1
    assert "70 more conditions are in the report; 10 of them did not pass." in text
    assert len(text) < 30_000


def test_a_long_message_is_cut() -> None:
    text = plain_text("word " * 5000)
    assert len(text) > 20_000
    none = row("input_x_gradient", [None] * 10, reasons=dict.fromkeys(range(10), "word " * 5000))
    images = {index: [1] for index in range(10)}
    found = made_up(shard(None, images, none), policy=(condition(explainer="input_x_gradient"),))
    assert len(render_markdown(found)) < 3000


def test_a_report_without_a_policy_has_no_table() -> None:
    text = render_markdown(audited(()))
    assert text.startswith("## auditcore: not evaluated\n\nNot judged: the request names no policy.\n")
    assert rows_of(text) == []
    assert "| Condition" not in text


def test_a_failed_audit_has_a_summary_too() -> None:
    failure = AuditFailure("a1", "failed", "model_not_loadable", HOSTILE, "model.weights", 3.0)
    text = render_failure_markdown(failure)
    assert text.startswith("## auditcore: no verdict, the audit failed\n\n`model.weights`: ")
    assert "`model_not_loadable`" in text
    assert set(re.findall(r"<(\w+)", html_of(text))) == {"h2", "p", "code", "ul", "li"}


# --- SARIF ----------------------------------------------------------------------------------------


def run_of(report: AuditReport, **options: Any) -> dict[str, Any]:
    document = json.loads(render_sarif(report, **options))
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("/sarif-schema-2.1.0.json")
    (run,) = document["runs"]
    found: dict[str, Any] = run
    return found


def test_each_condition_is_a_rule_and_each_outcome_a_result(report: AuditReport) -> None:
    run = run_of(report)
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [one.id for one in CONDITIONS]
    assert [(one["ruleId"], one["kind"], one["level"]) for one in run["results"]] == [
        ("met", "pass", "none"),
        ("missed", "fail", "error"),
        ("advice", "fail", "warning"),
        ("open", "fail", "warning"),
        ("open_advice", "fail", "note"),
        ("nothing", "fail", "warning"),
        ("skipped", "notApplicable", "none"),
    ]
    for one in run["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
        assert one["locations"][0]["logicalLocations"][0]["fullyQualifiedName"].startswith("deletion ")
    assert run["properties"]["verdict"] == "fail"
    assert run["properties"]["policy"]["name"] == "scans"


def test_the_rules_of_the_specification_hold(report: AuditReport) -> None:
    """SARIF 2.1.0: 3.27.10 (level by kind), 3.49.3 (ids of rules differ), 3.27.7 (index of the rule)."""
    for one in run_of(report)["results"]:
        assert one["kind"] in {"pass", "fail", "notApplicable"}
        assert (one["level"] == "none") == (one["kind"] != "fail")
        assert set(one) == {
            "ruleId", "ruleIndex", "kind", "level", "message", "locations", "partialFingerprints", "properties",
        }  # fmt: skip
        assert set(one["message"]) == {"text"}
    rules = [rule["id"] for rule in run_of(report)["tool"]["driver"]["rules"]]
    assert len(rules) == len(set(rules))


def test_results_point_to_the_policy_file_if_there_is_one(report: AuditReport) -> None:
    for one in run_of(report, policy_file="gates/my%20policy.json")["results"]:
        (location,) = one["locations"]
        assert location["physicalLocation"]["artifactLocation"] == {"uri": "gates/my%20policy.json"}
    for one in run_of(report)["results"]:
        assert "physicalLocation" not in one["locations"][0]


def test_a_finding_keeps_its_fingerprint_from_audit_to_audit(report: AuditReport) -> None:
    def prints(found: AuditReport) -> list[str]:
        return [one["partialFingerprints"]["condition/v1"] for one in run_of(found)["results"]]

    assert len(set(prints(report))) == len(CONDITIONS)
    again = made_up(shard(None, {0: [1]}, row("grad_cam", [0.1])), policy=CONDITIONS)
    assert prints(again) == prints(report)


def test_a_condition_of_several_results_is_one_rule() -> None:
    found = run_of(audited((condition(id="every", explainer="*"),)))
    assert [rule["id"] for rule in found["tool"]["driver"]["rules"]] == ["every"]
    assert len(found["results"]) == 3
    assert len({one["partialFingerprints"]["condition/v1"] for one in found["results"]}) == 3


# --- the report's own conditions ------------------------------------------------------------------


def test_the_outcomes_give_the_conditions_back(report: AuditReport) -> None:
    assert conditions_of(report) == CONDITIONS
    again = audited(conditions_of(report))
    assert again.conditions == report.conditions
    assert (again.verdict, again.verdict_reason) == (report.verdict, report.verdict_reason)


@pytest.mark.parametrize("wanted", ["fail", "warn", "skip", "inconclusive"])
def test_what_a_missing_value_means_is_kept(wanted: str) -> None:
    found = audited((condition(id="nothing", explainer="input_x_gradient", on_not_applicable=wanted),))
    assert [one.on_not_applicable for one in conditions_of(found)] == [wanted]


def test_a_pattern_becomes_the_names_that_it_matched() -> None:
    found = audited((condition(id="every", explainer="*"),))
    assert explainers(found.conditions) == ["gradient", "input_x_gradient", "grad_cam"]
    assert [one.explainer for one in conditions_of(found)] == explainers(found.conditions)


def explainers(outcomes: Sequence[ConditionOutcome]) -> list[str | None]:
    return [one.explainer for one in outcomes]
