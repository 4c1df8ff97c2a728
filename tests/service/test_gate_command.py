"""`auditcore gate` and `auditcore policy`: a finished report against a policy, and the policy itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.report import AuditReport
from auditcore.contracts.shipped_policies import shipped_policies
from auditcore.report.reading import read_report
from auditcore.report.serialize import report_bytes
from command_line import run
from made_up_audits import report as made_up
from made_up_audits import row, shard

VALUES = [0.3 + index / 100 for index in range(10)]
IMAGES = {index: [1] for index in range(10)}


def condition(**changes: Any) -> dict[str, Any]:
    return {"check": "deletion", "explainer": "grad_cam", "metric": "srg", "at_least": 0.1, **changes}


def document(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"name": "scans", "version": "2", "conditions": list(conditions)}


def audited(*, shift: float = 0.0, policy: tuple[Condition, ...] = ()) -> AuditReport:
    values = [value + shift * (1 + index / 50) for index, value in enumerate(VALUES)]
    return made_up(shard(None, IMAGES, row("grad_cam", values), row("gradient", [-1.0] * 10)), policy=policy)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two reports of the same images without policies: `report.json`, and `released.json`, better by about 0.2."""
    (tmp_path / "report.json").write_bytes(report_bytes(audited()))
    (tmp_path / "released.json").write_bytes(report_bytes(audited(shift=0.2)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(content: object, name: str = "policy.json") -> str:
    Path(name).write_text(json.dumps(content), encoding="utf-8")
    return name


@pytest.mark.parametrize(
    ("policy", "status", "verdict"),
    [
        (document(condition()), 0, "pass"),
        ([condition()], 0, "pass"),
        ([condition(), condition(explainer="gradient", severity="warn")], 0, "warn"),
        ([condition(explainer="gradient")], 1, "fail"),
        ([condition(at_least=0.345)], 3, "inconclusive"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_the_verdict_is_the_exit_code(policy: object, status: int, verdict: str) -> None:
    done = run("gate", "report.json", "--policy", write(policy))
    assert done.exit_code == status, done.output
    assert f"verdict: {verdict}" in done.output
    assert "deletion grad" in done.output
    assert ("policy: scans@2, sha256:" in done.output) == isinstance(policy, dict)


@pytest.mark.usefixtures("folder")
def test_it_writes_what_was_asked_for() -> None:
    policy = document(condition(id="met"), condition(id="missed", explainer="gradient"))
    outputs = ["--out", "out.json", "--junit", "out.xml", "--markdown", "out.md", "--sarif", "out.sarif"]
    done = run("gate", "report.json", "--policy", write(policy), *outputs)
    assert done.exit_code == 1
    judged = read_report(Path("out.json").read_bytes())
    assert judged.policy is not None
    assert judged.policy.digest == PolicyDocument.model_validate(policy).digest
    assert judged.verdict == "fail"
    assert judged.results == audited().results
    cases = ET.fromstring(Path("out.xml").read_text()).iter("testcase")  # noqa: S314 - our own
    assert [case.find("failure") is not None for case in cases] == [False, True]
    assert Path("out.md").read_text().startswith("## auditcore: fail")
    (found,) = json.loads(Path("out.sarif").read_text())["runs"]
    locations = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in found["results"]]
    assert locations == ["policy.json", "policy.json"]


def test_without_a_policy_it_repeats_the_report_s_own_conditions(folder: Path) -> None:
    conditions = (condition(id="met"), condition(id="every", explainer="*"))
    whole = audited(policy=tuple(Condition.model_validate(one) for one in conditions))
    (folder / "report.json").write_bytes(report_bytes(whole))
    assert run("gate", "report.json", "--out", "out.json").exit_code == 1
    again = read_report(Path("out.json").read_bytes())
    assert (again.conditions, again.verdict, again.verdict_reason) == (
        whole.conditions,
        whole.verdict,
        whole.verdict_reason,
    )


@pytest.mark.usefixtures("folder")
def test_a_baseline_decides_on_changes() -> None:
    within = write([condition(at_least=None, non_inferiority_margin=0.25)], "within.json")
    beyond = write([condition(at_least=None, non_inferiority_margin=0.1)], "beyond.json")
    assert run("gate", "report.json", "--policy", within, "--baseline", "released.json").exit_code == 0
    done = run("gate", "report.json", "--policy", beyond, "--baseline", "released.json", "--markdown", "out.md")
    assert done.exit_code == 1
    assert "-0.218" in done.output
    assert "| is worse by at most 0.1 |" in Path("out.md").read_text()
    assert "- baseline: audit `a`, 10 images in both" in Path("out.md").read_text()
    missing = run("gate", "report.json", "--policy", within)
    assert missing.exit_code == 2
    assert "policy.0.non_inferiority_margin" in missing.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report.json"], "has no conditions of its own; give a policy with --policy"),
        (["missing.json"], "missing.json cannot be read"),
        (["policy.json"], "holds no report that can be read"),
        (["report.json", "--policy", "nothing"], "there is no file nothing, and no policy of auditcore"),
        (["report.json", "--policy", "report.json"], "is not a valid policy"),
        (["report.json", "--policy", "policy.json"], "policy.0.explainer"),
        (["report.json", "--policy", "policy.json", "--out", "no/out.json"], "there is no folder no"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_judged_exits_with_2(arguments: list[str], words: str) -> None:
    write([condition(explainer="rise")])
    done = run("gate", *arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


def test_show_prints_a_policy_that_can_be_used_as_it_is(folder: Path) -> None:
    for shipped in shipped_policies():
        for name in (shipped.name, shipped.label):
            done = run("policy", "show", name)
            assert done.exit_code == 0
            (folder / "shown.json").write_text(done.output, encoding="utf-8")
            assert PolicyDocument.model_validate_json(done.output) == shipped
    unknown = run("policy", "show", "slow-look")
    assert unknown.exit_code == 2
    assert "pre-deployment, quick-look, regression" in unknown.output


STABLE = condition(check="sweep", metric="s_pearson", variant="rotate", at_least=0.5)
REQUEST = {"plan": {"preset": "quick"}, "model": {"kind": "demo"}}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("policy", "plan", "status", "words"),
    [
        ([condition()], None, 0, "no findings"),
        ([STABLE], None, 1, "no_evidence"),
        (document(STABLE), None, 1, "conditions: a map that ignores"),
        ([condition(explainer="rise")], REQUEST, 1, "policy.0.explainer"),
        ([condition(explainer="rise")], None, 0, "no findings"),
        ([condition()], REQUEST["plan"], 0, "no findings"),
        ([condition(at_most=1)], None, 2, "exactly one"),
        ([condition()], {"plan": {"preset": "slow"}}, 2, "holds no valid plan"),
    ],
)
def test_lint_exits_by_what_it_found(policy: object, plan: object, status: int, words: str) -> None:
    options = [] if plan is None else ["--plan", write(plan, "request.json")]
    done = run("policy", "lint", write(policy), *options)
    assert done.exit_code == status, done.output
    assert words in done.output


@pytest.mark.usefixtures("folder")
def test_lint_of_a_file_that_is_missing_or_no_json_exits_with_2() -> None:
    Path("broken.json").write_text("{")
    assert run("policy", "lint", "missing.json").exit_code == 2
    assert run("policy", "lint", "broken.json").exit_code == 2
    assert run("policy", "lint", write([condition()]), "--plan", "missing.json").exit_code == 2


def test_a_shipped_policy_can_be_linted_by_name() -> None:
    assert run("policy", "lint", "quick-look").exit_code == 0
