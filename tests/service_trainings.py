"""Trainings of a service, on digits: each takes a second or less."""

from __future__ import annotations

import io
import json
from typing import Any

import digits
from auditcore import TrainingRequest, train
from auditcore.contracts.access import AccessRules
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.store.records import Audit
from auditcore_service.use_cases.annotations import GivenAnnotations
from auditcore_service.use_cases.image_batches import UploadedFile

NETWORK = "auditcore.models.small_convnet:small_convnet"
"""In the package, so that processes of workers find it."""

MODEL: dict[str, Any] = {
    "kind": "factory",
    "target": NETWORK,
    "kwargs": {"width": 4},
    "weights": {"uri": "random:0"},
    "preprocessing": digits.PREPROCESSING.model_dump(mode="json"),
}
PLAN: dict[str, Any] = {"epochs": 3, "batch_size": 8, "optimizer": {"kind": "adam", "learning_rate": 0.005}}
IMAGES = 40
STEPS = 12
"""4 batches of at most 8 of the 30 images that are not held out, in each of 3 epochs."""

ALLOWED = {"factories": (NETWORK,)}
"""Settings of a service that may load the model."""


def store_digits(service: Service, count: int = IMAGES, *, owner: Principal = ANONYMOUS) -> dict[str, Any]:
    """A stored batch of labeled digits, as a request names it."""
    images = digits.encoded(count, labeled=True)
    files = [UploadedFile(image.name or "", io.BytesIO(image.data), f"images.{image.index}") for image in images]
    given = GivenAnnotations(labels=json.dumps([image.label for image in images]))
    return {"kind": "batch", "digest": service.batches.store(owner, files, annotations=given).digest}


def body_of(images: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A request; `changes` are fields of its plan."""
    return {"model": MODEL, "images": images, "plan": PLAN | changes}


def submit(service: Service, *, count: int = IMAGES, owner: Principal = ANONYMOUS, **changes: Any) -> str:
    """Id of a new training."""
    body = body_of(store_digits(service, count, owner=owner), **changes)
    return service.trainings.submit(owner, TrainingRequest.model_validate(body)).id


def get(service: Service, training_id: str) -> Audit:
    """As it is stored."""
    return service.trainings.get(ANONYMOUS, training_id)


def weights_of(service: Service, training_id: str) -> bytes:
    """The weights that it has made."""
    return service.trainings.file(ANONYMOUS, service.trainings.weights_digest(ANONYMOUS, training_id))


def undisturbed(*, count: int = IMAGES, **changes: Any) -> bytes:
    """The weights of the same training in this process, from start to end."""
    body = body_of({"kind": "batch", "digest": f"sha256:{0:064d}"}, **changes)
    request = TrainingRequest.model_validate(body)
    return train(request, images=digits.encoded(count, labeled=True), access=AccessRules(factories=(NETWORK,))).weights
