"""Experiments of a service, on digits: tiny studies and remedies, each of a few seconds."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import digits
from auditcore.contracts.experiments.request import EXPERIMENT_REQUEST, ExperimentRequest
from auditcore.contracts.experiments.stages import stages_of
from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.store.records import Audit, Shard
from auditcore_service.use_cases.annotations import GivenAnnotations
from auditcore_service.use_cases.image_batches import UploadedFile
from service_trainings import MODEL, PLAN
from worker_process import shards

TRAINING = 40
TESTED = 6
AUDIT: dict[str, Any] = {
    "explainers": [{"kind": "gradient"}],
    "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}],
}


ROAR: dict[str, Any] = {
    "kind": "roar",
    "explainers": [{"kind": "gradient"}],
    "training": PLAN | {"epochs": 1},
    "shares": [0.3, 0.6],
    "repeats": 1,
}
"""A measure that trains twice anew."""


def store_digits(service: Service, first: int, count: int, *, owner: Principal = ANONYMOUS) -> dict[str, Any]:
    """A stored batch of labeled digits from a number on, as a request names it."""
    images = digits.encoded(first + count, labeled=True)[first:]
    files = [
        UploadedFile(image.name or "", io.BytesIO(image.data), f"images.{number}")
        for number, image in enumerate(images)
    ]
    given = GivenAnnotations(labels=json.dumps([image.label for image in images]))
    return {"kind": "batch", "digest": service.batches.store(owner, files, annotations=given).digest}


def study_of(images: dict[str, Any], test: dict[str, Any], *, epochs: int = 2, **changes: Any) -> dict[str, Any]:
    """A study of two methods; `changes` are fields of its plan."""
    plan = PLAN | {"epochs": epochs}
    methods = [
        {"name": "plain", "plan": plan},
        {"name": "mixup", "plan": plan | {"method": {"kind": "mixup"}}},
    ]
    study = {"kind": "study", "methods": methods, "seeds": [3], "audit": AUDIT} | changes
    return {"model": MODEL, "images": images, "test": test, "plan": study}


def study_body(service: Service, *, owner: Principal = ANONYMOUS, **changes: Any) -> dict[str, Any]:
    """The same on stored digits."""
    return study_of(
        store_digits(service, 0, TRAINING, owner=owner), store_digits(service, TRAINING, TESTED, owner=owner), **changes
    )


FAILING: list[dict[str, Any]] = [
    {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": 0.9, "min_images": 2}
]
"""A policy that no model passes, about faithfulness."""


def failed_audit(service: Service, work: Callable[[], None], *, owner: Principal = ANONYMOUS, **changes: Any) -> str:
    """Id of an audit that has failed its policy; `changes` are fields of its request."""
    body = {
        "model": MODEL,
        "images": store_digits(service, TRAINING, TESTED, owner=owner),
        "plan": AUDIT,
        "policy": FAILING,
    }
    audit_id = service.audits.submit(owner, AuditRequest.model_validate(body | changes)).id
    work()
    return audit_id


def remedy_of(audit: str, images: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A remedy with one learning rate and one epoch; `changes` are fields of its plan."""
    plan = {"kind": "remedy", "learning_rates": [0.001], "epochs": [1], "accuracy_guard": 1.0, "probe_images": 4}
    return {"audit": audit, "images": images, "plan": plan | changes}


def request_of(body: dict[str, Any]) -> ExperimentRequest:
    """The request in a body."""
    return EXPERIMENT_REQUEST.validate_python(body)


def submit_study(service: Service, *, owner: Principal = ANONYMOUS, **changes: Any) -> str:
    """Id of a new study."""
    return service.experiments.submit(owner, request_of(study_body(service, owner=owner, **changes))).id


def get(service: Service, experiment_id: str) -> Audit:
    """As it is stored."""
    return service.experiments.get(ANONYMOUS, experiment_id)


def names(service: Service, experiment_id: str) -> list[str]:
    """Names of what it has kept."""
    return [file.name for file in service.experiments.files(ANONYMOUS, experiment_id)]


def file_of(service: Service, experiment_id: str, name: str) -> bytes:
    """The bytes of a file that it has kept."""
    found = service.experiments.find_file(ANONYMOUS, experiment_id, name)
    return service.experiments.content(ANONYMOUS, found.digest)


def states_of_stages(service: Service, experiment_id: str) -> dict[str, str]:
    """Name of each stage -> state of its shard."""
    request = EXPERIMENT_REQUEST.validate_json(get(service, experiment_id).request)
    in_order = sorted(shards(service, experiment_id), key=lambda shard: (shard.key.wave, shard.key.index))
    return {stage.name: shard.state for stage, shard in zip(stages_of(request), in_order, strict=True)}


def shard_of(service: Service, experiment_id: str, name: str) -> Shard:
    """The shard of a stage."""
    request = EXPERIMENT_REQUEST.validate_json(get(service, experiment_id).request)
    in_order = sorted(shards(service, experiment_id), key=lambda shard: (shard.key.wave, shard.key.index))
    return next(shard for stage, shard in zip(stages_of(request), in_order, strict=True) if stage.name == name)
