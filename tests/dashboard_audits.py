"""A service with audits of small classifiers, for tests and pictures of the dashboard; some texts of it are hostile."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import digits
from auditcore.contracts.experiments.request import EXPERIMENT_REQUEST
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.training.request import TrainingRequest
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.settings import Settings
from auditcore_service.use_cases.annotations import GivenAnnotations
from auditcore_service.use_cases.image_batches import UploadedFile
from service_experiments import study_body
from service_trainings import NETWORK
from small_model import SMALL_MODEL
from two_tenants import photo, work

HOSTILE: Final = (
    "\"><img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>\u202egnp'"
)
"""A text that runs if a page forgets to escape it; it also turns the direction of what follows."""

IMAGES: Final = 10

PLAN: Final[dict[str, Any]] = {
    "explainers": [{"kind": "gradient"}, {"kind": "grad_cam"}],
    "checks": [{"kind": "deletion", "grid": 4, "repeats": 1}],
}


def settings_for(folder: Path, **changes: Any) -> Settings:
    """Settings of a gateway that answers in this process and loads the classifiers of `digits`."""
    values = {
        "data_dir": folder / "service",
        "queue": "database",
        "sweep_s": 3600.0,
        "threads": 1,
        "device": "cpu",
        "micro_batch": 8,
        "inspection_wait_s": 0.05,
        "allowed_hosts": ("testserver",),
        "factories": ("digits:build", NETWORK),
        "file_roots": (folder,),
        **changes,
    }
    return Settings.model_validate(values)


def condition(explainer: str, at_least: float, severity: str = "fail") -> dict[str, Any]:
    """A condition on the faithfulness of an explainer."""
    return {
        "id": f"faithful_{explainer}",
        "check": "deletion",
        "explainer": explainer,
        "metric": "inter_model_deletion",
        "at_least": at_least,
        "severity": severity,
    }


def store_images(service: Service, principal: Principal, *, first: int = 0, name: str = "digit") -> str:
    """The digest of a batch of digits with labels and names of classes."""
    names = [f"{name}-{number}.png" for number in range(first, first + IMAGES)]
    files = [
        UploadedFile(one, io.BytesIO(digits.png(number)), f"images.{number}") for number, one in enumerate(names, first)
    ]
    return service.batches.store(principal, files).digest


def submit(service: Service, batch: str, weights: Path, principal: Principal = ANONYMOUS, **fields: Any) -> str:
    """Id of an audit that waits."""
    document = {
        "model": digits.reference(weights).model_dump(mode="json"),
        "images": {"kind": "batch", "digest": batch},
        "plan": PLAN,
        **fields,
    }
    return service.audits.submit(principal, AuditRequest.model_validate(document)).id


def finish(service: Service, audit_id: str) -> str:
    """The same id, once a worker has done the audit."""
    assert work(service, audit_id).state == "succeeded"
    return audit_id


def fill(service: Service, folder: Path, principal: Principal = ANONYMOUS) -> dict[str, str]:
    """Audits of three versions of a model, and others in every state; name -> id."""
    weights = [digits.write_weights(folder, seed) for seed in (0, 1)]
    batch = store_images(service, principal)
    other = store_images(service, principal, first=40)
    tags = {"model": "digits", "pipeline": "nightly"}
    versions = {
        "failed": (weights[0], [condition("gradient", 0.0), condition("grad_cam", 0.9)]),
        "warned": (weights[1], [condition("gradient", 0.0), condition("grad_cam", 0.9, "warn")]),
        "passed": (weights[1], [condition("gradient", 0.0)]),
    }
    found: dict[str, str] = {}
    for number, (name, (file, policy)) in enumerate(versions.items(), 1):
        known_by = {"name": f"digits v{number}", "tags": tags | {"version": str(number)}}
        found[name] = finish(service, submit(service, batch, file, principal, policy=policy, **known_by))
    found["elsewhere"] = finish(service, submit(service, other, weights[0], principal, name="other digits"))
    found["cancelled"] = service.audits.cancel(principal, submit(service, batch, weights[0], principal)).id
    found["waiting"] = submit(service, batch, weights[0], principal, name="digits v4", tags=tags | {"version": "4"})
    return found


def hostile(service: Service, folder: Path, principal: Principal = ANONYMOUS) -> str:
    """Id of a finished audit whose texts are hostile: names of images, classes, explainers, audit and tags."""
    names = [HOSTILE.replace("/", "_") + f"{number}.png" for number in range(IMAGES)]
    files = [UploadedFile(one, io.BytesIO(digits.png(number)), f"images.{number}") for number, one in enumerate(names)]
    given = GivenAnnotations(labels=str([number % 10 for number in range(IMAGES)]))
    batch = service.batches.store(principal, files, annotations=given).digest
    return finish(
        service,
        submit(
            service,
            batch,
            digits.write_weights(folder),
            principal,
            name=HOSTILE,
            tags={"model": HOSTILE},
            class_names=[f"{HOSTILE}{number}" for number in range(10)],
            policy=[condition("grad_cam", 0.9) | {"rationale": HOSTILE}],
        ),
    )


def training(service: Service, principal: Principal = ANONYMOUS) -> str:
    """Id of a training that waits."""

    batch = service.batches.store(
        principal, [photo(seed) for seed in range(4)], annotations=GivenAnnotations(labels="[0, 0, 1, 1]")
    ).digest
    document = {
        "model": SMALL_MODEL,
        "images": {"kind": "batch", "digest": batch},
        "validation": {"kind": "held_out", "share": 0.5},
        "plan": {"epochs": 1, "batch_size": 2},
        "name": HOSTILE,
    }
    return service.trainings.submit(principal, TrainingRequest.model_validate(document)).id


def study(service: Service, principal: Principal = ANONYMOUS) -> str:
    """Id of a study that waits."""
    body = study_body(service, owner=principal) | {"name": HOSTILE}
    return service.experiments.submit(principal, EXPERIMENT_REQUEST.validate_python(body)).id
