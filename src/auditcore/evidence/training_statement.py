"""The result of a training as an in-toto Statement v1 with the predicate SLSA Provenance v1.

Source: github.com/in-toto/attestation, `spec/v1/statement.md`, and slsa.dev/spec/v1.0/provenance. Of that predicate,
what was built are the weights, and what they were built from are the images and the weights at the start.

A statement follows from the bytes of the report and the signed registration, and from nothing else. So anyone who has
both can write it again and compare; it holds no time of signing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from auditcore.contracts.canonical_json import sha256
from auditcore.evidence.signing import payload_of, read_envelope
from auditcore.evidence.statement import STATEMENT_TYPE, hexadecimal, json_resource
from auditcore.evidence.training_registration import TrainingRegistration

PROVENANCE_TYPE: Final = "https://slsa.dev/provenance/v1"

BUILD_TYPE: Final = "pkg:pypi/auditcore#training-v1"
"""Says what the external parameters mean: the request of a training, as `POST /v1/trainings` takes it."""

TRAINING_EXTENSION: Final = "auditcore_training"
"""The field of the predicate with everything that the predicate has no field for."""

TRAINING_FORMAT: Final = 1
"""Version of the extension."""


def training_statement(report: bytes, registration: bytes) -> dict[str, Any]:
    """The statement about the weights and the report of a training.

    Args:
        report: The report, byte for byte as the service serves it.
        registration: The signed registration of the training: a DSSE envelope.

    Raises:
        EnvelopeUnreadable: The registration is no envelope.
        ValueError: The registration or the report is not one.
    """
    document = json.loads(report)
    envelope = read_envelope(registration)
    record = TrainingRegistration.model_validate_json(payload_of(envelope))
    trained, data = document["trained"], document["data"]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": "weights", "digest": _digests(trained["record"]["digest"], trained["weights"])},
            {"name": "report", "digest": {"sha256": hexadecimal(sha256(report))}},
        ],
        "predicateType": PROVENANCE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "request": json_resource("request", record.request),
                    "plan": json_resource("plan", document["plan_digest"]),
                    "seed": record.seed,
                },
                "resolvedDependencies": [
                    {
                        "name": "starting weights",
                        "digest": _digests(document["start"]["digest"], _start_file(document)),
                    },
                    _images("training images", data["training_digest"]),
                    _images("validation images", data["validation_digest"]),
                ],
            },
            "runDetails": {
                "builder": {"id": f"pkg:pypi/auditcore@{record.auditcore_version}"},
                "metadata": {"invocationId": document["training_id"]},
            },
            TRAINING_EXTENSION: {
                "format": TRAINING_FORMAT,
                "training_id": document["training_id"],
                "report": {"digest": sha256(report), "schema_version": document["schema_version"]},
                "weights": {"digest": trained["weights"], "size_bytes": trained["size_bytes"]},
                "images": {
                    "training": data["training_images"],
                    "validation": data["validation_images"],
                    "left_out": len(data["left_out"]),
                },
                "epochs": len(document["epochs"]),
                "stopped": document["stopped"],
                "attempts": document["attempts"],
                "environment": document["environment"],
                "registration": envelope.model_dump(mode="json", by_alias=True),
            },
        },
    }


def _start_file(report: Mapping[str, Any]) -> str | None:
    """Digest of the file of weights at the start; None for random ones, which are no file."""
    weights = report["request"]["model"].get("weights")
    return weights.get("sha256") if isinstance(weights, dict) else None


def _digests(parameters: str, file: str | None) -> dict[str, str]:
    """Digests of a model: `auditcoreModel` over its parameters and buffers, and `sha256` of its file if it has one."""
    found = {"auditcoreModel": hexadecimal(parameters)}
    return found if file is None else {**found, "sha256": hexadecimal(file)}


def _images(name: str, digest: str) -> dict[str, Any]:
    """Images by `auditcoreImages`: sha256 over digests and labels of all of them, in order."""
    return {"name": name, "digest": {"auditcoreImages": hexadecimal(digest)}}
