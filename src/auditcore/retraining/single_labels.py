"""Measures that retrain are defined for models with one class per image."""

from __future__ import annotations

from auditcore.errors import InvalidRequest
from auditcore.models.classifier import Classifier


def require_single_labels(classifier: Classifier) -> None:
    """Refuse a model with several labels per image.

    Raises:
        InvalidRequest: Its scores are not those of a softmax.
    """
    if classifier.scores != "softmax":
        msg = (
            "the model has several labels per image, and this measure explains one class per image; it is defined for "
            "models with softmax scores"
        )
        raise InvalidRequest(msg, field="model.scores")
