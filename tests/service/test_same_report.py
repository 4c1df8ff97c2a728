"""The same request in this process and through the service: one report, byte for byte."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import digits
from auditcore.auditing import audit
from auditcore.contracts.artifacts import PICTURE_IMAGES
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.images.encoded import EncodedImage
from auditcore.report.serialize import report_bytes
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.shards import list_shards
from auditcore_service.use_cases.image_batches import UploadedFile
from worker_in_process import worker_of

PLAN = {
    "seed": 3,
    "explainers": [{"kind": "gradient"}, {"kind": "smoothgrad", "samples": 2}],
    "checks": [
        {"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 3, "top_k": 50},
        {"kind": "deletion", "grid": 2, "repeats": 1},
    ],
}
POLICY = [{"check": "deletion", "explainer": "gradient", "metric": "srg", "at_least": -0.5, "min_images": 2}]
IMAGES = 7
SHARD_IMAGES = 3
MICRO_BATCH = 4
LONG_NAME = f"{'long' * 74}.png"


@pytest.fixture
def service(make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Service]:
    settings = make_settings(
        factories=("digits:build",), file_roots=(tmp_path,), shard_images=SHARD_IMAGES, micro_batch=MICRO_BATCH
    )
    opened = Service.of(settings)
    opened.database.migrate()
    opened.announcer.start()
    yield opened
    opened.stop()


@pytest.fixture
def models(tmp_path: Path) -> list[dict[str, Any]]:
    trained = digits.reference(digits.write_weights(tmp_path)).model_dump(mode="json")
    untrained = trained | {"weights": {"uri": "random:1"}}
    return [{"name": "trained", "model": trained}, {"name": "untrained", "model": untrained}]


def submitted(service: Service, request: AuditRequest) -> AuditReport:
    """The report of workers, each of which runs one shard and knows nothing of the others."""
    audit_id = service.audits.submit(ANONYMOUS, request).id
    while True:
        with service.database.reading("default") as connection:
            queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
        if not queued:
            break
        for key in reversed(queued):
            worker = worker_of(service)
            worker.run(key)
    found = service.audits.get(ANONYMOUS, audit_id)
    assert found.state == "succeeded", found.failure
    return AuditReport.model_validate_json(service.audits.report(ANONYMOUS, audit_id))


def repeatable(report: AuditReport) -> bytes:
    """The bytes of a report without its id and times, memory included, which no two runs share."""
    volatile = {"seconds": 0.0, "estimated_seconds": None, "peak_memory_bytes": 0}
    return report_bytes(
        report.model_copy(
            update={
                "audit_id": "",
                "cost": report.cost.model_copy(update=volatile),
                "manifest": report.manifest.model_copy(update={"started_at": None, "finished_at": None}),
            }
        )
    )


def images_of(kind: str, service: Service, folder: Path) -> tuple[dict[str, Any], list[EncodedImage] | None]:
    """Images as a request names them, and the same ones for `audit` where it cannot read them itself."""
    data = [digits.png(number) for number in range(IMAGES)]
    if kind == "inline":
        return {"kind": kind, "images": [{"data": base64.b64encode(one).decode()} for one in data]}, None
    if kind == "tensors":
        file = folder / "images.safetensors"
        mean, std = (torch.tensor(of)[:, None, None] for of in (digits.PREPROCESSING.mean, digits.PREPROCESSING.std))
        save_file({"pixel_values": (digits.digit_pixels()[0][:IMAGES] - mean) / std}, file)
        return {"kind": kind, "uri": file.as_uri(), "labels": [1, None, 2, 3, 4, 5, 6]}, None
    names = [f"{number}.png" for number in range(IMAGES - 1)]
    if kind == "batch":
        names.append(LONG_NAME)
        files = [UploadedFile(name, io.BytesIO(one), name) for name, one in zip(names, data, strict=True)]
        digest = service.batches.store(ANONYMOUS, files).digest
        given = [EncodedImage(number, names[number], one) for number, one in enumerate(data)]
        return {"kind": kind, "digest": digest}, given
    names.append("x" * 251 + ".png")
    for name, one in zip(names, data, strict=True):
        (folder / name).write_bytes(one)
    return {"kind": kind, "uris": [{"uri": (folder / name).as_uri()} for name in names]}, None


@pytest.mark.parametrize(
    ("kind", "stop"),
    [
        *(
            # a stop rule looks at shards, whatever brought their images
            pytest.param(kind, stop, marks=pytest.mark.long if stop and kind != "uris" else ())
            for kind in ("batch", "inline", "uris")
            for stop in (None, {"kind": "conclusive", "first_look": 2})
        ),
        ("tensors", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "all images" if value is None else "stop rule",
)
def test_a_local_audit_and_the_service_give_the_same_report(
    kind: str, stop: dict[str, Any] | None, service: Service, models: list[dict[str, Any]], tmp_path: Path
) -> None:
    reference, given = images_of(kind, service, tmp_path)
    request = AuditRequest.model_validate(
        {"models": models, "images": reference, "plan": PLAN, "policy": POLICY, "stop": stop}
    )
    pictures: dict[str, bytes] = {}
    local = audit(
        request,
        images=given,
        access=service.settings.access,
        shard_images=SHARD_IMAGES,
        micro_batch=MICRO_BATCH,
        pictures=pictures,
    )
    remote = submitted(service, request)
    assert repeatable(local) == repeatable(remote)
    # what the test is about did happen: two waves of two models in several shards, and pictures
    assert local.intervals
    assert local.manifest.shards >= 8
    assert {artifact.image for artifact in local.artifacts} <= set(range(PICTURE_IMAGES))
    assert set(pictures) == {artifact.digest for artifact in local.artifacts}
    assert all(service.blobs.get(digest) == data for digest, data in pictures.items())
    if kind == "batch":
        assert local.images.items[-1].name == LONG_NAME[-255:]
