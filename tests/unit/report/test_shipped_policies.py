"""The policies that come with auditcore: complete, free of advice, and judged on real reports of their presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import auditcore
import digits
from auditcore.auditing import audit
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import PresetName, PresetPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_lint import lint_document
from auditcore.contracts.presets import resolve_plan
from auditcore.contracts.report import AuditReport, Result
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shipped_policies import shipped_policies
from auditcore.report.gate import reevaluate

FOLDER = Path(auditcore.__file__).parent / "policies"

POLICIES = {document.name: document for document in shipped_policies()}

DIGESTS = {
    "pre-deployment": "sha256:8fd4924901c6ab045cfba3125c70d1165f3659f2004ae9bbedeb51da30d9ecbd",
    "quick-look": "sha256:ec8283e8423802ffe4d4902804d3df82caeb12e13e31d4c37b692ebf32252df5",
    "regression": "sha256:443aa565294c5fb76015fe5aaba0e33ba7b91d994752de917914321d853b8752",
}
"""Digests of the versions 1.0.0. A version never changes: a new threshold or reason is a new version."""

PRESETS: list[tuple[str, PresetName]] = [
    ("quick-look", "quick"),
    ("pre-deployment", "standard"),
    ("regression", "quick"),
    ("regression", "standard"),
]

Statuses = dict[tuple[str, str | None, str | None], str]


def test_there_are_three_and_their_versions_never_change() -> None:
    assert {name: document.digest for name, document in POLICIES.items()} == DIGESTS
    assert {document.version for document in POLICIES.values()} == {"1.0.0"}
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(POLICIES)


def test_every_threshold_has_a_reason_with_a_number() -> None:
    for document in POLICIES.values():
        ids = [condition.id for condition in document.conditions]
        assert None not in ids
        assert len(set(ids)) == len(ids)
        assert document.description
        for condition in document.conditions:
            assert condition.rationale is not None
            assert any(sign.isdigit() for sign in condition.rationale)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_none_gets_advice_on_its_own_or_on_its_preset(name: str, preset: PresetName) -> None:
    assert lint_document(POLICIES[name]) == ()
    assert lint_document(POLICIES[name], resolve_plan(PresetPlan(preset=preset), several_models=False)) == ()


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Callable[[PresetName], AuditReport]:
    """Eight digits audited by a preset, once for each, with some of its explainers, as if a product showed these."""
    folder = tmp_path_factory.mktemp("weights")
    weights = digits.write_weights(folder)
    reports: dict[PresetName, AuditReport] = {}

    def report(preset: PresetName) -> AuditReport:
        if preset not in reports:
            plan = resolve_plan(PresetPlan(preset=preset, seed=3), several_models=False)
            shown = {"gradient", "grad_cam", "guided_backpropagation", "lrp_epsilon_plus_flat", "random"}
            request = AuditRequest(
                model=digits.reference(weights),
                images=ImageBatchReference(digest=f"sha256:{0:064}"),
                plan=plan.model_copy(
                    update={"explainers": tuple(one for one in plan.explainers if one.label in shown)}
                ),
            )
            reports[preset] = audit(request, images=digits.encoded(8), access=digits.access(folder))
        return reports[preset]

    return report


def statuses(report: AuditReport) -> Statuses:
    return {(one.id, one.explainer, one.variant): one.status for one in report.conditions}


def test_quick_look_on_eight_digits(audited: Callable[[PresetName], AuditReport]) -> None:
    judged = reevaluate(audited("quick"), POLICIES["quick-look"].conditions)
    found = statuses(judged)
    # on these few digits, the random map seems better than a random order too
    assert {found[key] for key in found if key[0] != "stable_beyond_chance"} == {"vacuous"}
    assert found["stable_beyond_chance", "gradient", "rotate"] == "passed"
    assert found["stable_beyond_chance", "lrp_epsilon_plus_flat", "brightness"] == "passed"
    assert len(found) == 1 + 4 + 4 * 3
    assert judged.verdict == "inconclusive"


def test_pre_deployment_asks_for_thirty_images(audited: Callable[[PresetName], AuditReport]) -> None:
    judged = reevaluate(audited("standard"), POLICIES["pre-deployment"].conditions)
    assert set(statuses(judged).values()) == {"inconclusive"}
    assert len(judged.conditions) == 4 * (1 + 1 + 7 + 1)
    assert judged.verdict == "inconclusive"


def test_the_thresholds_of_pre_deployment_tell_explainers_apart(audited: Callable[[PresetName], AuditReport]) -> None:
    policy = [one.model_copy(update={"min_images": 8}) for one in POLICIES["pre-deployment"].conditions]
    judged = reevaluate(audited("standard"), policy)
    found = statuses(judged)
    assert found["faithful", "lrp_epsilon_plus_flat", None] == "passed"
    assert found["faithful", "gradient", None] == "inconclusive"
    assert found["depends_on_weights", "gradient", None] == "passed"
    assert found["stable_beyond_chance", "lrp_epsilon_plus_flat", "translate"] == "passed"
    assert found["stable_beyond_chance", "gradient", "translate"] == "failed"
    assert found["stable_under_brightness", "gradient", "brightness"] == "passed"
    assert judged.verdict == "fail"


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_the_same_report_is_no_regression(audited: Callable[[PresetName], AuditReport], preset: PresetName) -> None:
    report = audited(preset)
    judged = reevaluate(report, POLICIES["regression"].conditions, baseline=report)
    # Grad-CAM has no value for some digits; a map that is as unstable as a random one is not worse than a random one
    others = [one for one in judged.conditions if one.explainer != "grad_cam"]
    assert {one.status for one in others} <= {"passed", "vacuous"}
    assert {one.status for one in others if one.id == "as_faithful_as_before"} == {"passed"}


def test_a_loss_beyond_the_margin_is_a_regression(audited: Callable[[PresetName], AuditReport]) -> None:
    report = audited("quick")
    better = report.model_copy(update={"results": tuple(_better(one) for one in report.results)})
    judged = reevaluate(report, POLICIES["regression"].conditions, baseline=better)
    found = statuses(judged)
    assert found["as_faithful_as_before", "gradient", None] == "failed"
    assert found["as_stable_as_before", "gradient", "rotate"] == "passed"
    assert judged.verdict == "fail"


def _better(result: Result) -> Result:
    """A result with a deletion score that is higher by about 0.2; others as they are."""
    if result.metric != "inter_model_deletion":
        return result
    values = (None if value is None else value + 0.2 + index / 100 for index, value in enumerate(result.per_image))
    return result.model_copy(update={"per_image": tuple(values)})


def test_a_pattern_reaches_every_explainer_but_the_random_control() -> None:
    conditions: list[Condition] = [one for document in POLICIES.values() for one in document.conditions]
    assert {one.explainer for one in conditions} == {"*", "grad_cam"}
