"""A report names the layer that each explainer reads, for each model; so does an inspection."""

from __future__ import annotations

from pathlib import Path

import digits
from auditcore.auditing import audit
from auditcore.contracts.checks import ComplexityCheck
from auditcore.contracts.explainers import GradCam, Gradient, GuidedGradCam, Iba, NoiseTunnel
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.models import Weights
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.engine.inspection import inspect
from auditcore.models.classifier import Classifier
from auditcore.report.page.html import render_html
from auditcore.report.serialize import report_bytes

PLAN = AuditPlan(
    explainers=(
        Gradient(),
        GradCam(),
        GuidedGradCam(layer="stem.2"),
        GuidedGradCam(name="early", layer="first"),
        GradCam(name="absent", layer="dwn"),
        NoiseTunnel(method=GradCam(), samples=2),
        Iba(steps=1, samples=1),
    ),
    checks=(ComplexityCheck(),),
)
LAYERS = {"grad_cam": "down", "guided_grad_cam": "stem.2", "early": "stem.0", "noise_tunnel": "down", "iba": "stem.0"}
BATCH = ImageBatchReference(digest="sha256:" + "0" * 64)


def run(request: AuditRequest, folder: Path) -> AuditReport:
    return audit(
        request,
        images=digits.encoded(2),
        access=digits.access(folder),
        audit_id="layers",
        shard_images=1,
        micro_batch=8,
    )


def test_a_report_names_the_layer_of_each_explainer(tmp_path: Path) -> None:
    report = run(
        AuditRequest(model=digits.reference(digits.write_weights(tmp_path)), images=BATCH, plan=PLAN), tmp_path
    )
    assert report.model is not None
    assert report.model.layers == LAYERS
    assert AuditReport.model_validate_json(report_bytes(report)).model == report.model
    page = render_html(report)
    assert "Layers read" in page
    assert "grad_cam: <code>down</code>" in page


def test_each_of_several_models_has_its_own(tmp_path: Path) -> None:
    trained = digits.reference(digits.write_weights(tmp_path))
    fresh = trained.model_copy(update={"weights": Weights(uri="random:1")})
    models = (NamedModel(name="trained", model=trained), NamedModel(name="fresh", model=fresh))
    report = run(AuditRequest(models=models, images=BATCH, plan=PLAN), tmp_path)
    assert [model.layers for model in report.models] == [LAYERS, LAYERS]
    assert "Layers read, fresh" in render_html(report)


def test_without_such_an_explainer_there_is_no_warning(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"explainers": (Gradient(),)})
    report = run(
        AuditRequest(model=digits.reference(digits.write_weights(tmp_path)), images=BATCH, plan=plan), tmp_path
    )
    assert report.model is not None
    assert "layers" not in report.model.model_dump()
    assert "Layers read" not in render_html(report)


def test_an_inspection_names_them_too(digit_classifier: Classifier, tmp_path: Path) -> None:
    reference = digits.reference(digits.write_weights(tmp_path))
    found = inspect(digit_classifier, InspectionRequest(model=reference, plan=PLAN), reference)
    assert {one.name: one.layer for one in found.explainers if one.layer is not None} == LAYERS
    (absent,) = (one for one in found.explainers if one.name == "absent")
    assert absent.runs is False
    assert "did you mean 'down'" in str(absent.reason)
