"""Baselines of the service: found, checked and pinned when a request is submitted, and read for the report."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import digits
from auditcore.auditing import audit
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.errors import InvalidRequest, UnreachableResource
from auditcore.images.encoded import EncodedImage
from auditcore.report.serialize import report_bytes
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.shards import list_shards
from auditcore_service.use_cases.image_batches import UploadedFile
from worker_in_process import worker_of

IMAGES = 3
PLAN = {"seed": 3, "explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}
CHANGE = {"check": "deletion", "explainer": "*", "metric": "srg", "min_absolute_change": -1, "min_images": 2}


@pytest.fixture
def service(make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Service]:
    opened = Service.of(make_settings(factories=("digits:build",), file_roots=(tmp_path,)))
    opened.database.migrate()
    opened.announcer.start()
    yield opened
    opened.stop()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return digits.write_weights(tmp_path)


def upload(service: Service, images: range) -> dict[str, str]:
    files = [UploadedFile(f"{n}.png", io.BytesIO(digits.png(n)), f"images.{n}") for n in images]
    return {"kind": "batch", "digest": service.batches.store(ANONYMOUS, files).digest}


def request(weights: Path, images: dict[str, Any], **fields: Any) -> AuditRequest:
    trained = fields.pop("model", digits.reference(weights).model_dump(mode="json"))
    return AuditRequest.model_validate({"model": trained, "images": images, "plan": PLAN, **fields})


def done(service: Service, asked: AuditRequest) -> AuditReport:
    audit_id = service.audits.submit(ANONYMOUS, asked).id
    worker = worker_of(service)
    while True:
        with service.database.reading("default") as connection:
            queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
        if not queued:
            break
        for key in queued:
            worker.run(key)
    found = service.audits.get(ANONYMOUS, audit_id)
    assert found.state == "succeeded", found.failure
    return AuditReport.model_validate_json(service.audits.report(ANONYMOUS, audit_id))


def test_an_audit_is_compared_with_an_earlier_one_and_the_library_finds_the_same(
    service: Service, weights: Path
) -> None:
    images = upload(service, range(IMAGES))
    untrained = digits.reference(weights).model_dump(mode="json") | {"weights": {"uri": "random:1"}}
    earlier = done(service, request(weights, images, model=untrained))
    found = done(service, request(weights, images, baseline={"audit": earlier.audit_id}, policy=[CHANGE]))
    assert found.baseline is not None
    assert (found.baseline.audit_id, found.baseline.shared_images) == (earlier.audit_id, IMAGES)
    assert found.baseline.plan_digest == earlier.manifest.plan_digest
    (outcome,) = found.conditions
    assert outcome.change is not None
    assert outcome.change.n == IMAGES
    means = [
        next(row.mean for row in report.results if row.metric == "srg" and row.explainer == "gradient")
        for report in (found, earlier)
    ]
    assert outcome.change.change == pytest.approx((means[0] or 0) - (means[1] or 0), abs=1e-6)
    # the request keeps the digest of the report, so that it means the same forever
    stored = AuditRequest.model_validate_json(service.audits.get(ANONYMOUS, found.audit_id).request)
    digest = service.audits.get(ANONYMOUS, earlier.audit_id).report_digest
    assert stored.baseline is not None
    assert (stored.baseline.audit, stored.baseline.report) == (None, digest)

    by_digest = done(service, request(weights, images, baseline={"report": digest}, policy=[CHANGE]))
    assert by_digest.conditions == found.conditions
    local = audit(
        request(weights, images, policy=[CHANGE]),
        images=[EncodedImage(number, f"{number}.png", digits.png(number)) for number in range(IMAGES)],
        access=service.settings.access,
        baseline=earlier,
    )
    assert (local.conditions, local.baseline) == (found.conditions, found.baseline)
    assert local.manifest.request_digest == found.manifest.request_digest


@pytest.mark.parametrize("kind", ["batch", "inline", "uris"])
def test_a_baseline_that_cannot_be_used_is_refused_when_it_is_submitted(
    kind: str, service: Service, weights: Path, tmp_path: Path
) -> None:
    images = upload(service, range(IMAGES))
    waiting = service.audits.submit(ANONYMOUS, request(weights, images)).id
    no_report = service.blobs.put(b"{}")
    unknown = "00000000-0000-4000-8000-000000000000"
    for reference, field, message in (
        ({"audit": unknown}, "baseline.audit", f"there is no audit '{unknown}'"),
        ({"audit": "\x00"}, "baseline.audit", "there is no audit"),
        ({"audit": waiting}, "baseline.audit", "is queued and has no report; use an audit whose state is `succeeded`"),
        ({"report": no_report}, "baseline.report", "is not a report that can be read"),
    ):
        with pytest.raises(InvalidRequest, match=message) as caught:
            service.audits.submit(ANONYMOUS, request(weights, images, baseline=reference, policy=[CHANGE]))
        assert caught.value.field == field
        with pytest.raises(InvalidRequest, match=message):
            service.audits.estimate(ANONYMOUS, request(weights, images, baseline=reference, policy=[CHANGE]))
    with pytest.raises(UnreachableResource) as missing:
        service.audits.submit(ANONYMOUS, request(weights, images, baseline={"report": f"sha256:{'0' * 64}"}))
    assert missing.value.field == "baseline.report"

    others = _as_kind(kind, service, tmp_path)
    earlier = service.blobs.put(report_bytes(_local(request(weights, images), service)))
    with pytest.raises(InvalidRequest, match="1 of its images are not in this audit, and 1 images of this") as caught:
        service.audits.submit(ANONYMOUS, request(weights, others, baseline={"report": earlier}, policy=[CHANGE]))
    assert caught.value.field == "baseline"
    service.audits.submit(ANONYMOUS, request(weights, images, baseline={"report": earlier}, policy=[CHANGE]))


def _as_kind(kind: str, service: Service, folder: Path) -> dict[str, Any]:
    """The images after the first one, in one of the ways in which a request names images."""

    others = range(1, IMAGES + 1)
    if kind == "batch":
        return upload(service, others)
    data = [digits.png(number) for number in others]
    if kind == "inline":
        return {"kind": kind, "images": [{"data": base64.b64encode(one).decode()} for one in data]}
    uris = []
    for number, one in zip(others, data, strict=True):
        (folder / f"{number}.png").write_bytes(one)
        digest = f"sha256:{hashlib.sha256(one).hexdigest()}"
        uris.append({"uri": (folder / f"{number}.png").as_uri(), "sha256": digest})
    return {"kind": kind, "uris": uris}


def _local(asked: AuditRequest, service: Service) -> AuditReport:
    images = [EncodedImage(number, None, digits.png(number)) for number in range(IMAGES)]
    return audit(asked, images=images, access=service.settings.access)


def test_images_that_are_not_known_before_they_are_fetched_are_compared_where_both_audits_have_them(
    service: Service, weights: Path, tmp_path: Path
) -> None:
    earlier = service.blobs.put(report_bytes(_local(request(weights, upload(service, range(IMAGES))), service)))
    uris = []
    for number in range(1, IMAGES + 1):
        (tmp_path / f"{number}.png").write_bytes(digits.png(number))
        uris.append({"uri": (tmp_path / f"{number}.png").as_uri()})
    asked = request(weights, {"kind": "uris", "uris": uris}, baseline={"report": earlier}, policy=[CHANGE])
    found = done(service, asked)
    assert found.baseline is not None
    assert found.baseline.shared_images == IMAGES - 1
    assert found.conditions[0].n == IMAGES - 1


def test_the_library_needs_the_report_itself(weights: Path) -> None:
    asked = request(weights, {"kind": "batch", "digest": f"sha256:{'0' * 64}"}, baseline={"audit": "x"})
    with pytest.raises(InvalidRequest, match="pass the report to `audit` as `baseline`") as caught:
        audit(asked, images=[EncodedImage(0, None, digits.png(0))], access=digits.access(weights.parent))
    assert caught.value.field == "baseline"


def test_requests_without_a_baseline_keep_their_digests(weights: Path) -> None:
    plain = request(weights, {"kind": "batch", "digest": f"sha256:{'0' * 64}"})
    assert "baseline" not in plain.model_dump()
