"""Requests, answers and links that the routes of trainings show in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from auditcore_service.gateway.problem_responses import problem_example

_DIGEST = f"sha256:{'0' * 64}"
TRAINING_ID = "7d0c8b57-64c1-4f0a-8a53-0f1c2f3a9b77"

NO_TRAINING = problem_example(
    404, "not_found", "there is no training 't1'; take the id from the answer to POST /v1/trainings"
)
DELETED_TRAINING = problem_example(
    410, "deleted", f"training {TRAINING_ID} was deleted at 2026-11-22T12:00:00.000Z by ci@example.org"
)
NOT_TRAINED = problem_example(
    404,
    "report_not_ready",
    f"training {TRAINING_ID} is running and has no report and no weights; wait until its state is `succeeded`",
)
NOT_TRAINABLE = problem_example(
    422,
    "model_not_trainable",
    "a model of kind 'onnx' cannot be trained here, because its architecture and its weights cannot be given apart; "
    "name it as kind torchvision, timm or factory with its weights",
    pointer="#/model/kind",
)

TRAIN_EXAMPLES: dict[str, Any] = {
    "plain": {
        "summary": "A small network from random weights, validated on a fifth of the images",
        "value": {
            "model": {
                "kind": "torchvision",
                "name": "resnet18",
                "classes": 10,
                "weights": {"uri": "random:1"},
                "preprocessing": {"resize": 64, "crop": 64},
            },
            "images": {"kind": "batch", "digest": _DIGEST},
            "plan": {"epochs": 20, "batch_size": 64, "optimizer": {"kind": "adam", "learning_rate": 0.001}},
        },
    },
    "fine_tuning": {
        "summary": "Trained weights, Mixup, and a look at the explanations after every fifth epoch",
        "value": {
            "model": {
                "kind": "torchvision",
                "name": "resnet50",
                "weights": {"uri": "https://models.example/resnet50-v1.safetensors"},
            },
            "images": {"kind": "batch", "digest": _DIGEST},
            "validation": {"kind": "batch", "digest": _DIGEST},
            "plan": {
                "epochs": 10,
                "batch_size": 32,
                "optimizer": {"kind": "sgd", "learning_rate": 0.01},
                "schedule": {"kind": "cosine"},
                "method": {"kind": "mixup", "alpha": 1.0},
                "epoch_audit": {
                    "plan": {"explainers": [{"kind": "grad_cam"}], "checks": [{"kind": "deletion", "grid": 7}]},
                    "images": 32,
                    "every": 5,
                },
            },
            "budget_seconds": 7200,
            "name": "resnet50 with mixup",
        },
    },
}

TRAINING_STATUS_EXAMPLE = {
    "id": TRAINING_ID,
    "state": "running",
    "progress": {"done": 1, "total": 3, "failed": 0},
    "fraction": 0.41,
    "images": 1000,
    "estimate": {
        "images": 1000,
        "forward_images": 20000,
        "backward_images": 16000,
        "passes": 40800,
        "seconds": 340.0,
        "passes_per_s": 120.0,
        "basis": "assumed",
    },
    "created_at": "2026-11-22T12:00:00.000Z",
    "started_at": "2026-11-22T12:00:00.120Z",
    "links": {
        "self": f"/v1/trainings/{TRAINING_ID}",
        "report": f"/v1/trainings/{TRAINING_ID}/report",
        "weights": f"/v1/trainings/{TRAINING_ID}/weights",
        "events": f"/v1/trainings/{TRAINING_ID}/events",
        "cancel": f"/v1/trainings/{TRAINING_ID}/cancel",
        "evidence": f"/v1/trainings/{TRAINING_ID}/evidence",
    },
}

TRAINING_BUDGET_ADVICE = (
    "the training is estimated at 340 seconds of workers, above the budget of 60 (assumed, 120 passes per second); use "
    "fewer images or epochs, or a smaller audit after them; the operator can raise AUDIT_BUDGET_S or "
    "AUDIT_BUDGET_PASSES"
)

TRAINING_LINKS = {
    "status": {"operationId": "getTraining", "parameters": {"training_id": "$response.body#/id"}},
    "report": {"operationId": "getTrainingReport", "parameters": {"training_id": "$response.body#/id"}},
    "weights": {"operationId": "getTrainedWeights", "parameters": {"training_id": "$response.body#/id"}},
    "events": {"operationId": "followTraining", "parameters": {"training_id": "$response.body#/id"}},
    "cancel": {"operationId": "cancelTraining", "parameters": {"training_id": "$response.body#/id"}},
    "evidence": {"operationId": "getTrainingEvidence", "parameters": {"training_id": "$response.body#/id"}},
}
