"""A remedy from end to end: what it may try, what it chooses, and what it says of the model before and after."""

from __future__ import annotations

import functools
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

import digits
import small_trainings
from auditcore import (
    AuditPlan,
    AuditReport,
    AuditRequest,
    Brightness,
    Condition,
    Edda,
    EddaCheck,
    GradCam,
    Gradient,
    InlineImage,
    InlineImages,
    Remedy,
    RemedyPlan,
    RemedyRequest,
    SweepCheck,
    audit,
    load_classifier,
    remedy,
)
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import REPORT, WEIGHTS
from auditcore.contracts.packaged_models import OnnxModel
from auditcore.contracts.remedies.failed_conditions import condition_to_remedy, policy_of
from auditcore.contracts.remedies.search import training_plan
from auditcore.errors import InvalidRequest, ModelNotTrainable
from auditcore.images.encoded import EncodedImage
from auditcore.report.serialize import report_bytes

PLAN = AuditPlan(
    explainers=(GradCam(), Gradient()),
    checks=(
        EddaCheck(keep=(0.3,), color="mean"),
        SweepCheck(augmentations=(Brightness(interval=(-0.2, 0.2)),), levels=3),
    ),
)
DROP = Condition(
    id="drop", check="edda", explainer="grad_cam", metric="drop_percent", variant="top_30", at_most=1, min_images=4
)
STABLE = Condition(
    id="stable",
    check="sweep",
    explainer="grad_cam",
    metric="s_pearson",
    variant="brightness",
    at_least=1.5,
    min_images=4,
)
IMAGES = digits.encoded(320, labeled=True)
AUDITED, TRAINING = IMAGES[:20], IMAGES[20:]


def numbered(images: list[EncodedImage]) -> list[EncodedImage]:
    return [replace(image, index=number) for number, image in enumerate(images)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the audited model is."""
    return tmp_path_factory.mktemp("model")


@functools.cache
def failed(folder: Path, *conditions: Condition) -> AuditReport:
    request = AuditRequest(
        model=digits.reference(digits.write_weights(folder)),
        images=small_trainings.ANYWHERE,
        plan=PLAN,
        policy=conditions,
    )
    return audit(request, images=AUDITED, access=digits.access(folder))


def run(
    report: AuditReport, folder: Path, plan: RemedyPlan | None = None, *, out: Path | None = None, **changes: object
) -> Remedy:
    options = {"audited_images": AUDITED, "images": numbered(TRAINING), "out": out or folder / "out"} | changes
    return remedy(
        report,
        RemedyRequest(images=small_trainings.ANYWHERE, plan=plan or RemedyPlan()),
        access=digits.access(folder),
        **options,  # type: ignore[arg-type]
    )


class Done(NamedTuple):
    folder: Path
    before: AuditReport
    found: Remedy


@pytest.fixture(scope="module")
def done(folder: Path) -> Done:
    before = failed(folder, DROP, STABLE)
    plan = RemedyPlan(learning_rates=(3e-3, 1e-4), epochs=(1, 3), accuracy_guard=0.05, probe_images=16)
    return Done(folder, before, run(before, folder, plan))


def test_every_candidate_is_measured_and_the_best_that_keeps_the_accuracy_is_chosen(done: Done) -> None:
    report = done.found.report
    assert [(one.learning_rate, one.epochs) for one in report.candidates] == [
        (3e-3, 1),
        (3e-3, 3),
        (1e-4, 1),
        (1e-4, 3),
    ]
    assert report.start_score is not None
    for one in report.candidates:
        assert one.validation_score is not None
        assert one.kept_accuracy == (one.validation_score >= report.start_score - 0.05)
    usable = [one for one in report.candidates if one.kept_accuracy]
    (chosen,) = [one for one in report.candidates if one.chosen]
    assert chosen.value == min(one.value for one in usable if one.value is not None)


def test_the_chosen_model_is_the_one_that_was_measured_in_the_search(done: Done) -> None:
    """It is trained again, for fewer epochs, and passes through the same weights."""
    report, trained = done.found.report, done.found.trained
    assert trained is not None
    (chosen,) = [one for one in report.candidates if one.chosen]
    last = trained.report.epochs[-1]
    assert last.epoch == chosen.epochs
    assert last.validation_score == chosen.validation_score
    assert chosen.value in {one.mean for one in last.measurements if one.metric == "drop_percent"}


def test_pixels_are_masked_with_the_color_of_the_check(done: Done) -> None:
    plan = done.found.report.plan
    assert plan is not None
    assert isinstance(plan.method, Edda)
    assert (plan.method.color, plan.method.explainer) == ("mean", GradCam())
    black = PLAN.model_copy(update={"checks": (EddaCheck(keep=(0.3,)), PLAN.checks[1])})
    condition = condition_to_remedy(done.before, None)
    other = done.before.model_copy(update={"plan": black})
    training = training_plan(RemedyPlan(), condition, other, rate=0.1, epochs=1)
    assert isinstance(training.method, Edda)
    assert training.method.color == "black"


def test_both_audits_are_by_the_same_plan_and_policy(done: Done) -> None:
    after, report = done.found.audit, done.found.report
    assert after is not None
    assert after.plan == done.before.plan
    assert [item.digest for item in after.images.items] == [item.digest for item in done.before.images.items]
    assert [(one.before.id, one.after.id) for one in report.conditions] == [("drop", "drop"), ("stable", "stable")]
    assert all(one.before.threshold == one.after.threshold for one in report.conditions)
    assert report.verdict_before == done.before.verdict == "fail"
    assert report.verdict_after == after.verdict
    assert report.failed_report == sha256(report_bytes(done.before))
    assert report.audit_report == sha256(report_bytes(after))


def test_changes_are_paired_by_image(done: Done) -> None:
    after, report = done.found.audit, done.found.report
    assert after is not None
    (change,) = [one for one in report.changes if (one.explainer, one.metric) == ("grad_cam", "drop_percent")]
    rows = [
        next(one for one in audit_.results if (one.explainer, one.metric) == ("grad_cam", "drop_percent"))
        for audit_ in (done.before, after)
    ]
    pairs = [
        (old, new)
        for old, new in zip(rows[0].per_image, rows[1].per_image, strict=True)
        if old is not None and new is not None
    ]
    assert change.n == len(pairs)
    # lower is better, so an improvement is before minus after
    assert change.improvement == pytest.approx(sum(old - new for old, new in pairs) / len(pairs), rel=1e-4)


def test_the_outcome_follows_from_verdict_and_interval(done: Done) -> None:
    report = done.found.report
    (change,) = [one for one in report.changes if (one.explainer, one.metric) == ("grad_cam", "drop_percent")]
    assert change.ci is not None
    assert report.outcome == ("improved" if change.ci[0] > 0 else "no_improvement")  # `stable` cannot pass
    assert "drop_percent" in report.summary
    assert f"is {report.verdict_after}" in report.summary


def test_the_model_that_failed_stays_and_the_new_one_is_a_file_of_its_own(done: Done) -> None:
    trained = done.found.trained
    assert trained is not None
    assert (done.folder / "digits.safetensors").read_bytes() == digits.write_weights(done.folder).read_bytes()
    written = done.folder / "out" / WEIGHTS
    assert written.read_bytes() == trained.weights
    model = done.before.audited_models[0]
    found = load_classifier(model.reference, access=digits.access(done.folder))
    assert found.digest == model.digest != trained.report.trained.record.digest


def test_nothing_is_audited_if_nothing_keeps_the_accuracy(folder: Path, tmp_path: Path) -> None:
    plan = RemedyPlan(learning_rates=(1.0,), epochs=(1,), accuracy_guard=0, probe_images=8)
    found = run(failed(folder, DROP, STABLE), folder, plan, out=tmp_path / "out")
    assert found.trained is None
    assert found.audit is None
    assert found.report.outcome == "no_candidate"
    assert [one.reason for one in found.report.candidates] == [
        "it loses more of the validation score than `accuracy_guard` allows"
    ]
    assert (tmp_path / "out" / REPORT).read_bytes() == found.report.model_dump_json(indent=2).encode()
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_condition_on_something_else_is_refused(folder: Path) -> None:
    report = failed(folder, STABLE)
    with pytest.raises(InvalidRequest, match=r"training cannot reach what was missed \(stable: it is on stability"):
        run(report, folder)
    both = failed(folder, DROP, STABLE)
    assert condition_to_remedy(both, None).id == "drop"
    with pytest.raises(InvalidRequest, match="stability"):
        condition_to_remedy(both, "stable")
    with pytest.raises(InvalidRequest, match="no condition 'other'; its conditions are: drop, stable"):
        condition_to_remedy(both, "other")


def test_what_was_not_missed_needs_no_remedy(folder: Path) -> None:
    met = DROP.model_copy(update={"at_most": 100, "id": "met"})
    report = failed(folder, met)
    with pytest.raises(InvalidRequest, match="nothing to remedy"):
        condition_to_remedy(report, None)
    with pytest.raises(InvalidRequest, match=r"'met' was not missed \((passed|vacuous)\)"):
        condition_to_remedy(report, "met")


@pytest.mark.parametrize("field", ["images", "validation"])
def test_images_of_the_audit_are_neither_trained_on_nor_chosen_by(field: str, folder: Path) -> None:
    use = {"images": "training", "validation": "validation"}[field]
    with pytest.raises(InvalidRequest, match=f"1 {use} images are images of the audit, such as digit-3.png") as caught:
        run(failed(folder, DROP, STABLE), folder, **{field: numbered([*TRAINING[:30], AUDITED[3]])})
    assert caught.value.field == field


def test_images_that_the_request_names_are_compared_with_the_audit_too(folder: Path) -> None:
    inline = [InlineImage.model_validate({"data": b64encode(one.data), "label": one.label}) for one in AUDITED[:2]]
    request = RemedyRequest(images=InlineImages(images=tuple(inline)))
    with pytest.raises(InvalidRequest, match="2 training images are images of the audit"):
        remedy(
            failed(folder, DROP, STABLE),
            request,
            audited_images=AUDITED,
            out=folder / "out",
            access=digits.access(folder),
        )


def test_other_images_than_those_of_the_audit_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="used other images"):
        run(failed(folder, DROP, STABLE), folder, audited_images=AUDITED[:10])


def test_a_model_that_cannot_be_trained_is_refused(folder: Path) -> None:
    report = failed(folder, DROP, STABLE)
    assert report.model is not None
    onnx = OnnxModel.model_validate({"uri": "file:///model.onnx", "preprocessing": digits.PREPROCESSING})
    served = report.model_copy(update={"model": report.model.model_copy(update={"reference": onnx})})
    with pytest.raises(ModelNotTrainable, match="kind 'onnx'"):
        run(served, folder)


def test_the_policy_of_a_report_is_read_from_its_outcomes(folder: Path) -> None:
    pattern = DROP.model_copy(update={"id": "all", "explainer": "*", "metric": "drop_percent"})
    report = failed(folder, pattern, STABLE)
    found = policy_of(report)
    assert [(one.id, one.explainer) for one in found] == [
        ("all.0", "grad_cam"),
        ("all.1", "gradient"),
        ("stable", "grad_cam"),
    ]
    again = failed(folder, *found)
    assert [one.status for one in again.conditions] == [one.status for one in report.conditions]
    assert again.verdict == report.verdict
