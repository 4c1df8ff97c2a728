"""Two tenants of a service, and what each of them may have in it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from safetensors.numpy import save

from auditcore.contracts.experiments.request import EXPERIMENT_REQUEST
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.training.request import TrainingRequest
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.store.audits import find_audit
from auditcore_service.store.records import Audit
from auditcore_service.store.shards import list_shards
from auditcore_service.use_cases.annotations import GivenAnnotations
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


def photo(seed: int = 0) -> UploadedFile:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return UploadedFile("0.png", io.BytesIO(buffer.getvalue()), "images.0")


def request(batch: str, **changes: object) -> AuditRequest:
    document = {"model": SMALL_MODEL, "images": {"kind": "batch", "digest": batch}, "plan": PLAN, **changes}
    return AuditRequest.model_validate(document)


def work(service: Service, audit_id: str) -> Audit:
    """Run all shards of an audit or a training of any tenant, as a worker does."""
    executor = worker_of(service)
    while True:
        with service.database.reading() as connection:
            queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
        if not queued:
            break
        for key in queued:
            executor.run(key)
    with service.database.reading() as connection:
        audit = find_audit(connection, audit_id, kind=None)
    assert audit is not None
    return audit


def train(service: Service, owner: Principal) -> str:
    """Id of a training of a tenant that has succeeded."""
    files = [photo() for _ in range(4)]
    given = GivenAnnotations(labels="[0, 0, 1, 1]")
    batch = service.batches.store(owner, files, annotations=given).digest
    document = {
        "model": SMALL_MODEL,
        "images": {"kind": "batch", "digest": batch},
        "validation": {"kind": "held_out", "share": 0.5},
        "plan": {"epochs": 1, "batch_size": 2},
    }
    training_id = service.trainings.submit(owner, TrainingRequest.model_validate(document)).id
    assert work(service, training_id).state == "succeeded"
    return training_id


def study(service: Service, owner: Principal) -> str:
    """Id of a study of a tenant that has succeeded."""
    training, test = (
        service.batches.store(
            owner, [photo(seed) for seed in seeds], annotations=GivenAnnotations(labels="[0, 0, 1, 1]")
        ).digest
        for seeds in (range(1, 5), range(5, 9))
    )
    trained = {"epochs": 1, "batch_size": 2}
    document = {
        "model": SMALL_MODEL,
        "images": {"kind": "batch", "digest": training},
        "validation": {"kind": "held_out", "share": 0.5},
        "test": {"kind": "batch", "digest": test},
        "plan": {
            "kind": "study",
            "methods": [{"name": "a", "plan": trained}, {"name": "b", "plan": trained | {"label_smoothing": 0.1}}],
            "seeds": [0],
            "audit": PLAN,
        },
    }
    study_id = service.experiments.submit(owner, EXPERIMENT_REQUEST.validate_python(document)).id
    assert work(service, study_id).state == "succeeded"
    return study_id


def things_of(service: Service, owner: Principal) -> dict[str, dict[str, str]]:
    """Everything that a tenant can have: operation -> the parameters of its path that name one of them."""
    batch = service.batches.store(owner, [photo()]).digest
    maps = service.maps.store(owner, io.BytesIO(save({"maps": np.zeros((1, 32, 32), np.float32)}))).digest
    service.policies.store(owner, POLICY)
    audit = service.audits.submit(owner, request(batch)).id
    assert work(service, audit).state == "succeeded"
    report = AuditReport.model_validate_json(service.audits.report(owner, audit))
    key, _ = service.api_keys.create(owner, name="shown", scopes=owner.scopes, expires_at=None)
    # an address in numbers, which needs no name server
    webhook = service.webhooks.register(owner, url="https://1.1.1.1/hook", events=("audit.failed",), description="")
    of_audit, of_training = {"audit_id": audit}, {"training_id": train(service, owner)}
    of_experiment = {"experiment_id": study(service, owner)}
    return {
        "getAudit": of_audit,
        "cancelAudit": of_audit,
        "deleteAudit": of_audit,
        "followAudit": of_audit,
        "getReport": of_audit,
        "getEvidence": of_audit,
        "signOff": of_audit,
        "listSignOffs": of_audit,
        "replayAudit": of_audit,
        "compareReplay": of_audit,
        "getArtifact": {**of_audit, "digest": report.artifacts[0].digest},
        "getTraining": of_training,
        "cancelTraining": of_training,
        "deleteTraining": of_training,
        "followTraining": of_training,
        "getTrainingReport": of_training,
        "getTrainedWeights": of_training,
        "getTrainingEvidence": of_training,
        "getExperiment": of_experiment,
        "cancelExperiment": of_experiment,
        "deleteExperiment": of_experiment,
        "followExperiment": of_experiment,
        "getExperimentReport": of_experiment,
        "listExperimentFiles": of_experiment,
        "getExperimentFile": {**of_experiment, "name": "weights/a-0.safetensors"},
        "getImageBatch": {"digest": batch},
        "deleteImageBatch": {"digest": batch},
        "deleteMaps": {"digest": maps},
        "getPolicy": {"reference": POLICY.label},
        "getApiKey": {"key_id": key.id},
        "rotateApiKey": {"key_id": key.id},
        "revokeApiKey": {"key_id": key.id},
        "getWebhook": {"webhook_id": webhook.id},
        "deleteWebhook": {"webhook_id": webhook.id},
        "pingWebhook": {"webhook_id": webhook.id},
        "rotateWebhookSecret": {"webhook_id": webhook.id},
        "listWebhookDeliveries": {"webhook_id": webhook.id},
    }
