"""Audits whose models are compared with one of them: requests, shards, costs, conditions, and the preset arun2021."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch

import digits
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.augmentations import Rotate
from auditcore.contracts.capabilities import BLACK_BOX, WHITE_BOX
from auditcore.contracts.checks import AgreementCheck, ComplexityCheck, SsimSweepCheck
from auditcore.contracts.checks.ssim_sweep import Change
from auditcore.contracts.explainers import GradCam, Gradient, Iba, Random, SmoothGrad
from auditcore.contracts.images import Box, ImageBatchReference
from auditcore.contracts.models import DemoModel, Weights
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.contracts.stopping import Conclusive
from auditcore.costs.cost_model import ModelSpeed, estimate_of
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import ReferenceTask, Runtime, ShardTask
from auditcore.errors import DigestMismatch, InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.orchestration.prepared_request import plan_in_full
from auditcore.report.assemble import assemble
from auditcore.report.page.html import render_html

AGREEMENT = AgreementCheck(only_alike=False)
PLAN = AuditPlan(
    seed=5,
    explainers=(Gradient(), SmoothGrad(samples=2), GradCam(), Random()),
    checks=(AGREEMENT, ComplexityCheck()),
)
BATCH = ImageBatchReference(digest="sha256:" + "0" * 64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.write_weights(tmp_path_factory.mktemp("weights"))


def models(weights: Path) -> tuple[NamedModel, ...]:
    trained = digits.reference(weights)
    return (
        NamedModel(name="today", model=trained),
        NamedModel(name="retrained", model=trained.model_copy(update={"weights": Weights(uri="random:1")})),
        NamedModel(
            name="other",
            model=trained.model_copy(update={"target": "digits:build_shallow", "weights": Weights(uri="random:2")}),
        ),
    )


def run(weights: Path, plan: AuditPlan | PresetPlan = PLAN, **options: object) -> AuditReport:
    images = options.pop("images", digits.encoded(4, labeled=True))
    fields = {key: options.pop(key) for key in ("policy", "stop") if key in options}
    request = AuditRequest.model_validate({"models": models(weights), "images": BATCH, "plan": plan, **fields})
    access = AccessRules(factories=("digits:build", "digits:build_shallow"), file_roots=(weights.parent,))
    return audit(request, images=images, access=access, **{"audit_id": "compared", "micro_batch": 64, **options})


@pytest.fixture(scope="module")
def report(weights: Path) -> AuditReport:
    return run(weights)


def agreement(report: AuditReport) -> dict[tuple[str | None, str | None, str], tuple[float | None, ...]]:
    return {
        (row.model, row.explainer, row.metric): row.per_image
        for row in (*report.results, *report.controls)
        if row.check == "agreement"
    }


def test_every_model_but_the_reference_has_rows_with_the_floor_of_random_maps(report: AuditReport) -> None:
    assert report.plan.checks[0] == AGREEMENT.model_copy(update={"reference": "today"})
    rows = [row for row in report.results if row.check == "agreement"]
    assert {row.model for row in rows} == {"retrained", "other"}
    assert {row.model for row in report.results if row.check == "complexity"} == {"today", "retrained", "other"}
    floors = {row.model: row.mean for row in report.controls if (row.explainer, row.metric) == ("random", "pearson")}
    assert all(abs(floor) < 0.1 for floor in floors.values() if floor is not None)
    for row in rows:
        if row.metric == "pearson":
            assert row.n == 4
            assert row.floor == floors[row.model]
    # models that have rows are compared with each other, as under any check
    pairs = {(one.model, one.against) for one in report.comparisons if one.check == "agreement"}
    assert pairs == {("other", "retrained")}


def test_the_page_shows_it(report: AuditReport) -> None:
    page = render_html(report)
    assert "agreement" in page
    assert "prediction_agreement" in page


def test_shards_change_nothing(report: AuditReport, weights: Path) -> None:
    found = agreement(run(weights, shard_images=1, micro_batch=3))
    expected = agreement(report)
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=1e-4, abs=1e-4), key


def test_a_reference_that_comes_last_is_measured_first(weights: Path) -> None:
    """Statistics of layers and data ranges of SSIM are measured before any model is compared."""
    sweep = SsimSweepCheck(changes=(Change(augmentation=Rotate(), values=(5.0,)),))
    plan = AuditPlan(
        explainers=(Gradient(), Iba(steps=2, samples=2)),
        checks=(AGREEMENT.model_copy(update={"reference": "other"}), sweep),
    )
    found = agreement(run(weights, plan))
    assert {model for model, _, _ in found} == {"today", "retrained"}
    assert None not in found["today", "iba", "pearson"]
    assert agreement(run(weights, plan, shard_images=2)) == found


def test_a_tensor_is_the_whole_input_of_models_that_crop_photos_differently(weights: Path) -> None:
    trained = digits.reference(weights)
    cropping = trained.model_copy(
        update={"preprocessing": digits.PREPROCESSING.model_copy(update={"resize": 40, "crop": 32})}
    )
    pixels, _ = digits.digit_pixels()
    channels = [torch.tensor(values)[:, None, None] for values in (digits.PREPROCESSING.mean, digits.PREPROCESSING.std)]
    tensors = [
        EncodedImage(index, None, safetensors.torch.save({"x": (pixels[index] - channels[0]) / channels[1]}))
        for index in range(2)
    ]
    request = AuditRequest(
        models=(NamedModel(name="whole", model=trained), NamedModel(name="cropping", model=cropping)),
        images=BATCH,
        plan=AuditPlan(explainers=(Gradient(),), checks=(AgreementCheck(),)),
    )
    found = audit(request, images=tensors, access=digits.access(weights.parent), micro_batch=64)
    assert agreement(found)["cropping", "gradient", "pearson"] == pytest.approx((1.0, 1.0), abs=1e-6)


def test_the_same_weights_under_two_names_agree(weights: Path) -> None:
    trained = digits.reference(weights)
    twins = [NamedModel(name="a", model=trained), NamedModel(name="b", model=trained)]
    request = AuditRequest(models=tuple(twins), images=BATCH, plan=PLAN)
    found = audit(request, images=digits.encoded(3), access=digits.access(weights.parent), micro_batch=64)
    means = {(row.explainer, row.metric): row.mean for row in found.results if row.check == "agreement"}
    assert means.pop((None, "prediction_agreement")) == 1
    with_itself = {key: means.pop(key) for key in list(means) if key[1].startswith("self_")}
    assert set(means.values()) == {1}
    assert all(mean is not None and 0.5 < mean < 1 for mean in with_itself.values())


def refused(plan: AuditPlan, weights: Path, *, one: bool = False, policy: tuple[Condition, ...] = ()) -> InvalidRequest:
    named = models(weights)
    asked = {"model": named[0].model} if one else {"models": named}
    with pytest.raises(InvalidRequest) as caught:
        plan_in_full(AuditRequest.model_validate({**asked, "images": BATCH, "plan": plan, "policy": policy}))
    return caught.value


def test_what_cannot_be_compared_is_refused_with_its_place(weights: Path) -> None:
    error = refused(PLAN, weights, one=True)
    assert error.field == "plan.checks.0"
    assert "list two or more under `models`, or name an earlier audit as `baseline`" in error.message

    unknown = AGREEMENT.model_copy(update={"reference": "yesterday"})
    error = refused(PLAN.model_copy(update={"checks": (ComplexityCheck(), unknown)}), weights)
    assert error.field == "plan.checks.1.reference"
    assert "'yesterday', which is not in `models`; use one of: today, retrained, other" in error.message

    condition = Condition(check="agreement", explainer="gradient", metric="ssim", at_least=0.5)
    error = refused(PLAN, weights, policy=(condition.model_copy(update={"model": "today"}),))
    assert error.field == "policy.0.model"
    assert "no results of its own" in error.message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"measures": ["ssim", "ssim"]}, "listed twice"),
        ({"measures": ["kendall"]}, "'ssim', 'pearson', 'spearman' or 'top_k'"),
        ({"window": 8}, "must be odd"),
        ({"top_share": 1}, "less than 1"),
    ],
)
def test_settings_without_a_meaning(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AgreementCheck.model_validate(fields)


def test_a_condition_is_judged_for_every_model_but_the_reference(weights: Path) -> None:
    condition = Condition(
        check="agreement", explainer="gradient", metric="pearson", at_least=-1, min_images=1, statistic="mean"
    )
    named = condition.model_copy(update={"model": "other", "id": "named", "at_least": 1.0})
    outcomes = run(weights, policy=(condition, named)).conditions
    # no correlation is below -1, also not with random maps
    assert [(one.model, one.status) for one in outcomes] == [
        ("retrained", "vacuous"),
        ("other", "vacuous"),
        ("other", "failed"),
    ]
    rule = Conclusive(first_look=2)
    stopped = run(weights, policy=(condition,), stop=rule)
    assert [(one.model, one.status) for one in stopped.conditions] == [("retrained", "vacuous"), ("other", "vacuous")]
    assert stopped.stopping is not None
    assert stopped.stopping.images_used == 2


def test_the_price_counts_the_reference_once_for_every_other_model(weights: Path) -> None:
    named = AGREEMENT.model_copy(update={"reference": "today"})
    plan = AuditPlan(explainers=(Gradient(),), checks=(named,))
    speeds = [ModelSpeed.assumed(1.0, DemoModel(), name=name) for name in ("today", "retrained", "other")]
    # one pass there and back for each model's own maps, and for each of two more those of the reference, of the image
    # and of three harmless copies
    made = estimate_of(plan, images=3, speeds=speeds)
    assert (made.forward_images, made.backward_images) == (3 * 11, 3 * 11)
    # a reference without gradients makes only predictions
    blind = [
        ModelSpeed.assumed(1.0, DemoModel(), BLACK_BOX if one.name == "today" else WHITE_BOX, name=one.name)
        for one in speeds
    ]
    made = estimate_of(plan, images=3, speeds=blind)
    assert (made.forward_images, made.backward_images) == (3 * 5, 3 * 2)
    report = run(weights, PLAN.model_copy(update={"explainers": (Gradient(),), "checks": (AGREEMENT,)}))
    assert (report.cost.forward_images, report.cost.backward_images) == (4 * 11, 4 * 11)


def test_a_reference_whose_weights_change_during_the_audit_is_refused(weights: Path) -> None:
    named = AGREEMENT.model_copy(update={"reference": "today"})
    plan = PLAN.model_copy(update={"checks": (named,)})
    classifiers = [Classifier(digits.trained(), preprocessing=digits.PREPROCESSING) for _ in range(2)]
    images = digits.encoded(2)
    results = [
        run_shard(
            ShardTask(plan=plan.for_model("today"), wave="compute", images=images, model_name="today"),
            Runtime(classifiers[0], micro_batch=4),
        ),
        run_shard(
            ShardTask(
                plan=plan,
                wave="compute",
                images=images,
                model_name="retrained",
                references={"today": ReferenceTask(0, {})},
            ),
            Runtime(classifiers[1], {"today": classifiers[0]}, micro_batch=4),
        ),
    ]
    request = AuditRequest(models=models(weights)[:2], images=BATCH, plan=plan)
    options = {"audit_id": "x", "shared": {}, "attempts": 2, "started_at": None, "finished_at": None}
    assert assemble(request=request, plan=plan, results=results, **options).models
    results[1] = results[1].model_copy(update={"references": {"today": f"sha256:{1:064}"}})
    with pytest.raises(DigestMismatch) as caught:
        assemble(request=request, plan=plan, results=results, **options)
    assert caught.value.field == "models.0.model.weights"


def with_box(images: list[EncodedImage]) -> list[EncodedImage]:
    return [dataclasses.replace(image, boxes=(Box(x0=8, y0=4, x1=24, y1=28),)) for image in images]


def test_arun2021_of_three_models_has_all_four_measurements(weights: Path) -> None:
    report = run(weights, PresetPlan(preset="arun2021"), images=with_box(digits.encoded(1, labeled=True)))
    assert report.notes == ()
    means = {(row.model, row.check, row.explainer, row.metric): row.mean for row in report.results}
    for explainer in (one.label for one in report.plan.explainers):
        assert means["today", "localization", explainer, "average_precision"] is not None
        assert means["today", "randomization", explainer, "cascade_similarity"] is not None
        # repeatability and reproducibility
        assert means["retrained", "agreement", explainer, "ssim"] is not None
        assert means["other", "agreement", explainer, "ssim"] is not None
    assert ("today", "agreement", "gradient", "ssim") not in means
    assert "checks.agreement.reference" in render_html(report)


def test_arun2021_of_one_model_says_what_it_leaves_out(weights: Path) -> None:
    request = AuditRequest(model=models(weights)[0].model, images=BATCH, plan=PresetPlan(preset="arun2021"))
    images = with_box(digits.encoded(1, labeled=True))
    report = audit(request, images=images, access=digits.access(weights.parent), micro_batch=64)
    assert [check.label for check in report.plan.checks] == ["localization", "randomization"]
    (note,) = report.notes
    assert "'agreement', which an audit of one `model` leaves out; list several under `models`" in note
    page = render_html(report)
    assert "checks.randomization.similarity" in page
    assert "checks.agreement" not in page
