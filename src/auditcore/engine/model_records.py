"""The record of a model that has run."""

from __future__ import annotations

from auditcore.contracts.shards import ModelRecord
from auditcore.models.classifier import Classifier


def model_record(classifier: Classifier) -> ModelRecord:
    """Which model ran, and what can be used of it."""
    return ModelRecord(
        digest=classifier.digest,
        classes=classifier.classes,
        parameters=classifier.parameters,
        trained=classifier.trained,
        preprocessing=classifier.preprocessing,
        capabilities=classifier.capabilities,
        scores=classifier.scores,
        structure=classifier.structure,
        signature=classifier.signature,
    )
