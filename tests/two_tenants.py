"""Two tenants of a service, and what each of them may have in it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.store.audits import find_audit
from auditcore_service.store.records import Audit
from auditcore_service.store.shards import list_shards
from auditcore_service.use_cases.image_batches import UploadedFile
from small_model import SMALL_MODEL
from worker_in_process import worker_of

OURS = Principal("ours", "pipeline", ANONYMOUS.scopes)
THEIRS = Principal("theirs", "stranger", ANONYMOUS.scopes)

PLAN = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}

POLICY = PolicyDocument.model_validate(
    {
        "name": "scans",
        "version": "1.0.0",
        "description": "Of one tenant.",
        "conditions": [
            {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": 0.05}
        ],
    }
)


def photo() -> UploadedFile:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return UploadedFile("0.png", io.BytesIO(buffer.getvalue()), "images.0")


def request(batch: str, **changes: object) -> AuditRequest:
    document = {"model": SMALL_MODEL, "images": {"kind": "batch", "digest": batch}, "plan": PLAN, **changes}
    return AuditRequest.model_validate(document)


def work(service: Service, audit_id: str) -> Audit:
    """Run all shards of an audit of any tenant, as a worker does."""
    executor = worker_of(service)
    while True:
        with service.database.reading() as connection:
            queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
        if not queued:
            break
        for key in queued:
            executor.run(key)
    with service.database.reading() as connection:
        audit = find_audit(connection, audit_id)
    assert audit is not None
    return audit
