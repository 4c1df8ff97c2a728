"""Requests, answers and links that the routes of experiments show in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from auditcore_service.gateway.problem_responses import problem_example

_DIGEST = f"sha256:{'0' * 64}"
EXPERIMENT_ID = "3f2a9b77-0f1c-4f0a-8a53-7d0c8b5764c1"

NO_EXPERIMENT = problem_example(
    404, "not_found", "there is no experiment 'e1'; take the id from the answer to POST /v1/experiments"
)
NO_FILE = problem_example(
    404,
    "not_found",
    f"experiment {EXPERIMENT_ID} is running and has no file 'model.safetensors'; the list of its files is at "
    f"/v1/experiments/{EXPERIMENT_ID}/files",
)
DELETED_EXPERIMENT = problem_example(
    410, "deleted", f"experiment {EXPERIMENT_ID} was deleted at 2026-11-22T12:00:00.000Z by ci@example.org"
)
NOT_REPORTED = problem_example(
    404,
    "report_not_ready",
    f"experiment {EXPERIMENT_ID} is running and has no report; wait until its state is `succeeded`",
)
NOTHING_TO_REMEDY = problem_example(
    422,
    "invalid_request",
    "no condition of the report was missed, so there is nothing to remedy",
    pointer="#/plan/condition",
)

_MODEL: dict[str, Any] = {
    "kind": "torchvision",
    "name": "resnet18",
    "classes": 10,
    "weights": {"uri": "random:1"},
    "preprocessing": {"resize": 64, "crop": 64},
}
_TRAINING: dict[str, Any] = {"epochs": 20, "batch_size": 64, "optimizer": {"kind": "adam", "learning_rate": 0.001}}
_IMAGES = {"kind": "batch", "digest": _DIGEST}

EXPERIMENT_EXAMPLES: dict[str, Any] = {
    "study": {
        "summary": "Mixup against plain training, over three seeds",
        "value": {
            "model": _MODEL,
            "images": _IMAGES,
            "test": _IMAGES,
            "plan": {
                "kind": "study",
                "methods": [
                    {"name": "plain", "plan": _TRAINING},
                    {"name": "mixup", "plan": _TRAINING | {"method": {"kind": "mixup", "alpha": 1.0}}},
                ],
                "seeds": [0, 1, 2],
                "audit": {"explainers": [{"kind": "grad_cam"}], "checks": [{"kind": "deletion", "grid": 7}]},
            },
        },
    },
    "remedy": {
        "summary": "Fine-tune the model of a failed audit, and audit it again",
        "value": {
            "audit": "0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11",
            "images": _IMAGES,
            "plan": {"kind": "remedy", "learning_rates": [0.001, 0.0003], "epochs": [3, 6]},
        },
    },
    "roar": {
        "summary": "Remove what Grad-CAM finds relevant, and train again",
        "value": {
            "model": _MODEL,
            "images": _IMAGES,
            "plan": {
                "kind": "roar",
                "explainers": [{"kind": "grad_cam"}],
                "training": _TRAINING,
                "shares": [0.0, 0.5, 0.9],
                "repeats": 3,
            },
            "budget_seconds": 36000,
        },
    },
}

_ESTIMATE: dict[str, Any] = {
    "images": 1400,
    "forward_images": 120000,
    "backward_images": 96000,
    "passes": 244800,
    "seconds": 2040.0,
    "passes_per_s": 120.0,
    "basis": "assumed",
}

EXPERIMENT_STATUS_EXAMPLE: dict[str, Any] = {
    "id": EXPERIMENT_ID,
    "state": "running",
    "plan": "study",
    "progress": {"done": 4, "total": 10, "failed": 0},
    "fraction": 0.41,
    "images": 1400,
    "estimate": _ESTIMATE,
    "created_at": "2026-11-22T12:00:00.000Z",
    "started_at": "2026-11-22T12:00:00.120Z",
    "links": {
        "self": f"/v1/experiments/{EXPERIMENT_ID}",
        "report": f"/v1/experiments/{EXPERIMENT_ID}/report",
        "files": f"/v1/experiments/{EXPERIMENT_ID}/files",
        "events": f"/v1/experiments/{EXPERIMENT_ID}/events",
        "cancel": f"/v1/experiments/{EXPERIMENT_ID}/cancel",
    },
}

EXPERIMENT_FILES_EXAMPLE: dict[str, Any] = {
    "items": [
        {
            "name": "weights/mixup-0.safetensors",
            "stage": "mixup-0",
            "digest": _DIGEST,
            "size_bytes": 44787192,
            "created_at": "2026-11-22T12:04:00.000Z",
            "href": f"/v1/experiments/{EXPERIMENT_ID}/files/weights/mixup-0.safetensors",
        }
    ]
}

EXPERIMENT_BUDGET_ADVICE = (
    "the experiment is estimated at 2040 seconds of workers, above the budget of 600 (assumed, 120 passes per second); "
    "use fewer images, trainings or epochs, or smaller audits; the operator can raise AUDIT_BUDGET_S or "
    "AUDIT_BUDGET_PASSES"
)

EXPERIMENT_ESTIMATE_EXAMPLE: dict[str, Any] = {
    "estimate": _ESTIMATE,
    "within_budget": False,
    "advice": EXPERIMENT_BUDGET_ADVICE,
}

EXPERIMENT_LINKS = {
    "status": {"operationId": "getExperiment", "parameters": {"experiment_id": "$response.body#/id"}},
    "report": {"operationId": "getExperimentReport", "parameters": {"experiment_id": "$response.body#/id"}},
    "files": {"operationId": "listExperimentFiles", "parameters": {"experiment_id": "$response.body#/id"}},
    "events": {"operationId": "followExperiment", "parameters": {"experiment_id": "$response.body#/id"}},
    "cancel": {"operationId": "cancelExperiment", "parameters": {"experiment_id": "$response.body#/id"}},
}
