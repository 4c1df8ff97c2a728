"""Requests, answers and links that the routes of audits and estimates show in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from auditcore.contracts.access import DEMO_FACTORY, DEMO_PACKAGE
from auditcore_service.gateway.problem_responses import problem_example

_DIGEST = f"sha256:{'0' * 64}"
AUDIT_ID = "0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11"

NO_AUDIT = problem_example(404, "not_found", "there is no audit 'a1'; take the id from the answer to POST /v1/audits")
DELETED_AUDIT = problem_example(
    410,
    "deleted",
    f"audit {AUDIT_ID} was deleted at 2026-11-22T12:00:00.000Z by ci@example.org; its evidence stays at "
    f"/v1/audits/{AUDIT_ID}/evidence",
)
NOT_READY = problem_example(
    404,
    "report_not_ready",
    f"audit {AUDIT_ID} is running and has no report; wait until its state is `succeeded`",
)

SUBMIT_EXAMPLES: dict[str, Any] = {
    "explicit": {
        "summary": "Two explainers, three checks",
        "value": {
            "model": {
                "kind": "factory",
                "target": DEMO_FACTORY,
                "args": ["efficientnet-lite0"],
                "weights": {"uri": f"package:{DEMO_PACKAGE}/models/efficientnet-lite0-57934424.pth"},
                "preprocessing": {
                    "resize": 224,
                    "crop": 224,
                    "mean": [0.5, 0.5, 0.5],
                    "std": [0.5, 0.5, 0.5],
                    "interpolation": "bicubic",
                },
            },
            "images": {"kind": "batch", "digest": _DIGEST},
            "plan": {
                "seed": 7,
                "explainers": [
                    {"kind": "gradient"},
                    {"kind": "integrated_gradients", "steps": 50, "baseline": "mean"},
                ],
                "checks": [
                    {
                        "kind": "sweep",
                        "augmentations": [
                            {"kind": "brightness", "interval": [-0.3, 0.3]},
                            {"kind": "rotate", "interval": [-20, 20]},
                        ],
                        "levels": 5,
                    },
                    {"kind": "deletion", "grid": 14, "repeats": 5},
                    {"kind": "edda", "keep": [0.15], "color": "mean"},
                ],
            },
        },
    },
    "preset": {
        "summary": "A preset with one condition",
        "value": {
            "model": {"kind": "demo"},
            "images": {"kind": "batch", "digest": _DIGEST},
            "plan": {"preset": "quick"},
            "policy": [
                {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": 0.0}
            ],
        },
    },
    "policy": {
        "summary": "A preset with a policy that comes with auditcore",
        "value": {
            "model": {"kind": "demo"},
            "images": {"kind": "batch", "digest": _DIGEST},
            "plan": {"preset": "quick"},
            "policy": "quick-look@1.0.0",
        },
    },
    "comparison": {
        "summary": "Two models on the same images",
        "value": {
            "models": [
                {
                    "name": "current",
                    "model": {
                        "kind": "torchvision",
                        "name": "resnet50",
                        "weights": {"uri": "https://models.example/resnet50-v1.safetensors"},
                    },
                },
                {
                    "name": "candidate",
                    "model": {
                        "kind": "torchvision",
                        "name": "resnet50",
                        "weights": {"uri": "https://models.example/resnet50-v2.safetensors"},
                    },
                },
            ],
            "images": {"kind": "batch", "digest": _DIGEST},
            "plan": {"preset": "quick"},
            "policy": [
                {
                    "model": "candidate",
                    "check": "deletion",
                    "explainer": "gradient",
                    "metric": "inter_model_deletion",
                    "at_least": 0.0,
                }
            ],
        },
    },
}

ESTIMATE_EXAMPLE = {
    "images": 4,
    "forward_images": 4972,
    "backward_images": 224,
    "passes": 5264,
    "seconds": 70.2,
    "passes_per_s": 74.986,
    "basis": "measured",
    "device": "cpu",
}

STATUS_EXAMPLE = {
    "id": AUDIT_ID,
    "state": "running",
    "progress": {"done": 1, "total": 3, "failed": 0},
    "fraction": 0.41,
    "images": 4,
    "estimate": ESTIMATE_EXAMPLE,
    "created_at": "2026-11-22T12:00:00.000Z",
    "started_at": "2026-11-22T12:00:00.120Z",
    "links": {
        "self": f"/v1/audits/{AUDIT_ID}",
        "report": f"/v1/audits/{AUDIT_ID}/report",
        "events": f"/v1/audits/{AUDIT_ID}/events",
        "cancel": f"/v1/audits/{AUDIT_ID}/cancel",
        "evidence": f"/v1/audits/{AUDIT_ID}/evidence",
        "page": f"/ui/audits/{AUDIT_ID}",
    },
}

BUDGET_ADVICE = (
    "the audit is estimated at 70.2 seconds of workers, above the budget of 60 (measured, 74.986 passes per second); "
    "use at most 3 of the 4 images, or fewer explainers, levels, repeats or draws: check 'deletion' takes 94 % of the "
    "checks' passes; the operator can raise AUDIT_BUDGET_S or AUDIT_BUDGET_PASSES"
)

AUDIT_LINKS = {
    "status": {"operationId": "getAudit", "parameters": {"audit_id": "$response.body#/id"}},
    "report": {"operationId": "getReport", "parameters": {"audit_id": "$response.body#/id"}},
    "events": {"operationId": "followAudit", "parameters": {"audit_id": "$response.body#/id"}},
    "cancel": {"operationId": "cancelAudit", "parameters": {"audit_id": "$response.body#/id"}},
    "evidence": {"operationId": "getEvidence", "parameters": {"audit_id": "$response.body#/id"}},
}


REPORT_LINKS = {
    "photo": {
        "operationId": "getArtifact",
        "parameters": {"audit_id": "$request.path.audit_id", "digest": "$response.body#/artifacts/0/digest"},
        "description": "Each entry of `artifacts` has such a picture; the first one is a photo.",
    }
}
