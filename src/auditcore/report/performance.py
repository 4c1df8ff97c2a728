"""Predictive performance of a model on all images of an audit, including those that the plan leaves out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from auditcore.contracts.images import labels_of
from auditcore.contracts.models import Scores
from auditcore.contracts.report import ModelPerformance
from auditcore.contracts.shards import ImageRecord
from auditcore.contracts.significance import significant
from auditcore.metrics.performance import accuracy, macro_f1

NO_LABELS = "no image that the model has classified has a label"
MULTI_LABEL = "the model is a multi-label model: several classes, or none, may be correct for an image"
SEVERAL_LABELS = "an image has several labels, so the number of misses of a class is not defined"


def performance_of(records: Iterable[ImageRecord], scores: Scores) -> ModelPerformance:
    """Compute accuracy and macro F1 of one model.

    Args:
        records: Record of each image.
        scores: How the model's logits become probabilities.
    """
    known = [
        (record.predicted, labels)
        for record in records
        if record.predicted is not None and (labels := labels_of(record.label))
    ]
    if scores == "sigmoid":
        return _undefined(len(known), MULTI_LABEL)
    if not known:
        return _undefined(0, NO_LABELS)
    predicted = np.array([most_probable for most_probable, _ in known])
    # if an image has several labels and one of them is predicted, that label counts
    counted = np.array([most_probable if most_probable in own else own[0] for most_probable, own in known])
    several = any(len(own) > 1 for _, own in known)
    return ModelPerformance(
        n=len(known),
        accuracy=significant(accuracy(predicted, counted)),
        macro_f1=None if several else significant(macro_f1(predicted, counted)),
        reasons={"macro_f1": SEVERAL_LABELS} if several else {},
    )


def _undefined(n: int, reason: str) -> ModelPerformance:
    return ModelPerformance(n=n, accuracy=None, macro_f1=None, reasons=dict.fromkeys(("accuracy", "macro_f1"), reason))
