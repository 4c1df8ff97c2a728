"""Agreement of the maps of one model with those of the model of an earlier audit, in a service and in the library."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import digits
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.report import AuditReport, Result
from auditcore.contracts.request import AuditRequest
from auditcore.costs.cost_model import Estimate
from auditcore.errors import InvalidRequest, UnsafeReference
from auditcore.evidence.registration import register
from auditcore.evidence.verification import _contradictions
from auditcore.images.encoded import EncodedImage
from auditcore.report.markdown import render_markdown
from auditcore.report.page.html import render_html
from auditcore.report.serialize import report_bytes
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.records import Audit
from auditcore_service.store.shards import list_shards
from auditcore_service.use_cases.image_batches import UploadedFile
from worker_in_process import worker_of

IMAGES = 8
# the same everywhere, so that no number differs by rounding
SHARD_IMAGES = 4
PLAN: dict[str, Any] = {
    "seed": 3,
    # IBA needs a measure wave of both models, SmoothGrad draws random numbers in both
    "explainers": [{"kind": "gradient"}, {"kind": "smoothgrad", "samples": 2}, {"kind": "iba", "steps": 2}],
    "checks": [{"kind": "agreement"}, {"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 2}],
}
SMALL = {**PLAN, "explainers": [{"kind": "gradient"}], "checks": [{"kind": "agreement"}]}
ALIKE = {"check": "agreement", "explainer": "gradient", "metric": "pearson", "at_least": 0.99, "min_images": 4}
EARLIER_PLAN = {"seed": 3, "explainers": [{"kind": "gradient"}], "checks": [{"kind": "complexity"}]}


@pytest.fixture
def service(make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Service]:
    settings = make_settings(
        factories=("digits:build",), file_roots=(tmp_path,), shard_images=SHARD_IMAGES, micro_batch=SHARD_IMAGES
    )
    opened = Service.of(settings)
    opened.database.migrate()
    opened.announcer.start()
    yield opened
    opened.stop()


@pytest.fixture
def released(tmp_path: Path) -> dict[str, Any]:
    return digits.reference(digits.write_weights(tmp_path)).model_dump(mode="json")


@pytest.fixture
def retrained(tmp_path: Path) -> dict[str, Any]:
    return digits.reference(digits.write_weights(tmp_path, seed=1)).model_dump(mode="json")


def upload(service: Service) -> dict[str, str]:
    files = [UploadedFile(f"{n}.png", io.BytesIO(digits.png(n)), f"images.{n}") for n in range(IMAGES)]
    return {"kind": "batch", "digest": service.batches.store(ANONYMOUS, files).digest}


def encoded() -> list[EncodedImage]:
    return [EncodedImage(number, f"{number}.png", digits.png(number)) for number in range(IMAGES)]


def run(service: Service, fields: dict[str, Any]) -> Audit:
    audit_id = service.audits.submit(ANONYMOUS, AuditRequest.model_validate(fields)).id
    worker = worker_of(service)
    while True:
        with service.database.reading() as connection:
            queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
        if not queued:
            return service.audits.get(ANONYMOUS, audit_id)
        for key in queued:
            worker.run(key)


def done(service: Service, fields: dict[str, Any]) -> AuditReport:
    found = run(service, fields)
    assert found.state == "succeeded", found.failure
    return AuditReport.model_validate_json(service.audits.report(ANONYMOUS, found.id))


def numbers(report: AuditReport) -> list[Result]:
    """Everything about agreement, without the name of the model, which an audit of one does not have."""
    listed = (*report.results, *report.controls)
    return [one.model_copy(update={"model": None}) for one in listed if one.check == "agreement"]


@pytest.mark.long
def test_it_has_the_numbers_of_an_audit_of_both_models_and_judges_only_the_new_one(
    service: Service, released: dict[str, Any], retrained: dict[str, Any]
) -> None:
    images = upload(service)
    earlier = done(service, {"model": released, "images": images, "plan": EARLIER_PLAN})
    fields = {"model": retrained, "images": images, "plan": PLAN, "policy": [ALIKE]}
    found = done(service, {**fields, "baseline": {"audit": earlier.audit_id}})
    both = done(
        service,
        {
            "models": [{"name": "baseline", "model": released}, {"name": "candidate", "model": retrained}],
            "images": images,
            "plan": PLAN,
        },
    )
    assert numbers(found) == numbers(both)
    values = [one.mean for one in numbers(found) if one.explainer == "iba" and one.metric == "pearson"]
    assert values[0] is not None
    assert values[0] != 1
    # no number, no condition and no model of the report is about the baseline
    assert {one.model for one in (*found.results, *found.controls)} == {None}
    assert [(one.model, one.check) for one in found.conditions] == [(None, "agreement")]
    assert found.verdict == "fail"
    assert found.model is not None
    assert found.model.digest != earlier.audited_models[0].digest
    # automatic intervals are those of the new model, not the narrowest of both
    assert {one.model for one in found.intervals} == {None}

    assert found.baseline_model is not None
    assert found.baseline_model.digest == earlier.audited_models[0].digest
    assert found.baseline_model.digest in render_markdown(found)
    assert found.baseline_model.digest in render_html(found)
    stored = AuditRequest.model_validate_json(service.audits.get(ANONYMOUS, found.audit_id).request)
    assert stored.baseline is not None
    assert stored.baseline.model == found.baseline_model.reference == earlier.audited_models[0].reference

    local = audit(
        AuditRequest.model_validate(fields),
        images=encoded(),
        access=service.settings.access,
        shard_images=SHARD_IMAGES,
        micro_batch=SHARD_IMAGES,
        baseline=earlier,
    )
    assert numbers(local) == numbers(found)
    assert local.manifest.request_digest == found.manifest.request_digest
    assert (local.conditions, local.baseline_model) == (found.conditions, found.baseline_model)


def test_its_price_holds_what_both_models_compute(
    service: Service, released: dict[str, Any], retrained: dict[str, Any]
) -> None:
    images = upload(service)
    earlier = done(service, {"model": released, "images": images, "plan": EARLIER_PLAN})
    audited = run(
        service, {"model": retrained, "images": images, "plan": PLAN, "baseline": {"audit": earlier.audit_id}}
    )
    report = AuditReport.model_validate_json(service.audits.report(ANONYMOUS, audited.id))
    assert audited.estimate is not None
    estimate = Estimate.model_validate_json(audited.estimate)
    assert (report.cost.forward_images, report.cost.backward_images) == (
        estimate.forward_images,
        estimate.backward_images,
    )
    with service.database.reading() as connection:
        shards = [(shard.kind, shard.model) for shard in list_shards(connection, audited.id)]
    assert {("measure", 0), ("measure", 1), ("compute", 0)} <= set(shards)
    assert ("compute", 1) not in shards


def test_a_replay_compares_with_the_same_model(
    service: Service, released: dict[str, Any], retrained: dict[str, Any], tmp_path: Path
) -> None:
    images = upload(service)
    earlier = done(service, {"model": released, "images": images, "plan": EARLIER_PLAN})
    first = done(
        service, {"model": retrained, "images": images, "plan": SMALL, "baseline": {"audit": earlier.audit_id}}
    )
    stored = json.loads(service.audits.get(ANONYMOUS, first.audit_id).request)
    again = done(service, stored)
    assert again.manifest.request_digest == first.manifest.request_digest
    assert numbers(again) == numbers(first)
    # files that have moved are given with the request
    moved = tmp_path / "moved.safetensors"
    Path(tmp_path / "digits.safetensors").rename(moved)
    stored["baseline"]["model"]["weights"]["uri"] = moved.as_uri()
    assert numbers(done(service, stored)) == numbers(first)


def test_a_model_of_the_baseline_that_is_gone_or_another_is_an_error_that_names_the_field(
    service: Service, released: dict[str, Any], retrained: dict[str, Any], tmp_path: Path
) -> None:
    images = upload(service)
    earlier = done(service, {"model": released, "images": images, "plan": EARLIER_PLAN})
    fields = {"model": retrained, "images": images, "plan": SMALL, "baseline": {"audit": earlier.audit_id}}

    other = {"audit": earlier.audit_id, "model": retrained}
    failed = run(service, {**fields, "baseline": other})
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.field) == ("model_changed", "baseline.model")
    assert "list both models under `models`" in failed.failure.message

    weights = tmp_path / "digits.safetensors"
    changed = load_file(weights)
    save_file({name: torch.zeros_like(value) for name, value in changed.items()}, weights)
    failed = run(service, fields)
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.field) == ("digest_mismatch", "baseline.model.weights.sha256")

    weights.unlink()
    failed = run(service, fields)
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.field) == ("unreachable_resource", "baseline.model.weights.uri")

    forbidden = {"audit": earlier.audit_id, "model": released | {"target": "digits:build_shallow"}}
    with pytest.raises(UnsafeReference) as caught:
        service.audits.submit(ANONYMOUS, AuditRequest.model_validate({**fields, "baseline": forbidden}))
    assert caught.value.field == "baseline.model.target"


def test_without_a_baseline_or_with_another_reference_it_is_refused(service: Service, released: dict[str, Any]) -> None:
    images = upload(service)
    fields = {"model": released, "images": images, "plan": PLAN}
    with pytest.raises(InvalidRequest, match="name an earlier audit as `baseline`") as caught:
        service.audits.submit(ANONYMOUS, AuditRequest.model_validate(fields))
    assert caught.value.field == "plan.checks.0"
    earlier = done(service, {"model": released, "images": images, "plan": EARLIER_PLAN})
    named = {**PLAN, "checks": [{"kind": "agreement", "reference": "today"}]}
    with pytest.raises(InvalidRequest, match="use null or 'baseline'") as caught:
        service.audits.submit(
            ANONYMOUS, AuditRequest.model_validate({**fields, "plan": named, "baseline": {"audit": earlier.audit_id}})
        )
    assert caught.value.field == "plan.checks.0.reference"


def test_an_audit_that_compares_no_maps_loads_no_second_model(
    service: Service, released: dict[str, Any], retrained: dict[str, Any], tmp_path: Path
) -> None:
    images = upload(service)
    earlier = done(service, {"model": released, "images": images, "plan": EARLIER_PLAN})
    (tmp_path / "digits.safetensors").unlink()
    fields = {"model": retrained, "images": images, "plan": EARLIER_PLAN, "baseline": {"audit": earlier.audit_id}}
    found = done(service, fields)
    assert found.baseline_model is None
    stored = AuditRequest.model_validate_json(service.audits.get(ANONYMOUS, found.audit_id).request)
    assert stored.baseline is not None
    assert "model" not in stored.baseline.model_dump()
    assert "baseline_model" not in json.loads(report_bytes(found))


def test_the_registration_names_the_model_of_the_baseline(released: dict[str, Any], retrained: dict[str, Any]) -> None:
    images = {"kind": "batch", "digest": f"sha256:{'0' * 64}"}
    access = AccessRules(factories=("digits:build",), file_roots=(Path("/"),))
    earlier = audit(
        AuditRequest.model_validate({"model": released, "images": images, "plan": EARLIER_PLAN}),
        images=encoded(),
        access=access,
    )
    report = audit(
        AuditRequest.model_validate({"model": retrained, "images": images, "plan": SMALL}),
        images=encoded(),
        access=access,
        baseline=earlier,
    )
    assert report.model is not None
    assert report.baseline_model is not None
    request = AuditRequest.model_validate(
        {
            "model": report.model.reference,
            "images": images,
            "plan": SMALL,
            "baseline": {"report": f"sha256:{'1' * 64}", "model": report.baseline_model.reference},
        }
    )
    record = register(
        audit_id=report.audit_id,
        request=request,
        plan=report.plan,
        images=IMAGES,
        files=(),
        registered_at="2026-01-01T00:00:00Z",
    )
    document = json.loads(report_bytes(report))
    assert "registration.baseline.model" not in {one.where for one in _contradictions(record, document)}
    document["baseline_model"]["reference"]["weights"]["sha256"] = f"sha256:{'2' * 64}"
    assert any(one.where.startswith("registration.baseline.model") for one in _contradictions(record, document))
