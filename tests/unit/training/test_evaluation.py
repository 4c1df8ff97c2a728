"""Scores of predictions after an epoch."""

from __future__ import annotations

import pytest
import torch

import small_trainings
from auditcore.training.evaluation import one_hot, score, validate

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.4, 0.1], [0.0, 0.1, 0.2]])


def test_the_score_of_one_class_per_image_is_the_share_that_is_right() -> None:
    truth = torch.eye(3, dtype=torch.bool)[[0, 1, 1, 2]]
    assert score(LOGITS, truth, "softmax") == 0.75


def average_precision(scores: list[float], truth: list[bool]) -> float:
    """By its definition: the mean, over the true images, of the precision among those with at least their score."""
    precisions = []
    for own, true in zip(scores, truth, strict=True):
        if true:
            chosen = [one for one, other in zip(truth, scores, strict=True) if other >= own]
            precisions.append(sum(chosen) / len(chosen))
    return sum(precisions) / len(precisions)


def test_the_score_of_a_multi_label_model_is_the_mean_average_precision() -> None:
    """A class that is true of all images, or of none, has none."""
    truth = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1]], dtype=torch.bool)
    columns = [average_precision(LOGITS[:, one].tolist(), truth[:, one].tolist()) for one in (0, 1)]
    assert score(LOGITS, truth, "sigmoid") == pytest.approx(sum(columns) / 2)
    assert score(LOGITS, torch.ones(4, 3, dtype=torch.bool), "sigmoid") is None


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_validation_uses_labels_as_they_are_and_evaluation_mode(scores: str) -> None:
    network = small_trainings.network(scores)  # type: ignore[arg-type]
    _, images = small_trainings.labeled(scores=scores)  # type: ignore[arg-type]
    found = validate(network, images)
    assert found == validate(network, images)  # no dropout
    logits = network.start.logits(images.pixels(range(len(images)))).double()
    truth = one_hot(images.truth).double()
    if scores == "softmax":
        expected = -(truth * logits.log_softmax(1)).sum(1).mean()
    else:
        expected = -(truth * logits.sigmoid().log() + (1 - truth) * (-logits).sigmoid().log()).mean()
    assert found.loss == pytest.approx(float(expected), rel=1e-5)
