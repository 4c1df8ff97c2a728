"""Predictive performance of a classifier; numpy, no tensors."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from auditcore.errors import ShapeError


def accuracy(predicted: Int[np.ndarray, " prediction"], labels: Int[np.ndarray, " image"]) -> float:
    """Compute the share of images whose predicted class is the label, in [0, 1]; NaN without images.

    Raises:
        ShapeError: The number of predictions is not the number of labels.
    """
    _refuse_other_length(predicted, labels)
    return float(np.mean(predicted == labels)) if len(labels) else float("nan")


def macro_f1(predicted: Int[np.ndarray, " prediction"], labels: Int[np.ndarray, " image"]) -> float:
    """Compute the mean over classes of 2 TP / (2 TP + FP + FN), in [0, 1]; NaN without images.

    Args:
        predicted: Predicted class of each image.
        labels: Label of each image.

    Returns:
        The mean over the classes that are a label or prediction of at least one image, as in scikit-learn.

    Raises:
        ShapeError: The number of predictions is not the number of labels.
    """
    _refuse_other_length(predicted, labels)
    classes = np.union1d(predicted, labels)
    if not len(classes):
        return float("nan")
    right = np.array([np.sum((predicted == one) & (labels == one)) for one in classes])
    # 2 TP + FP + FN: images with this prediction plus images with this label
    involved = np.array([np.sum(predicted == one) + np.sum(labels == one) for one in classes])
    return float(np.mean(2 * right / involved))


def _refuse_other_length(predicted: np.ndarray, labels: np.ndarray) -> None:
    if predicted.shape != labels.shape:
        raise ShapeError(expected=f"as many predictions as labels, {labels.shape}", actual=predicted.shape)
