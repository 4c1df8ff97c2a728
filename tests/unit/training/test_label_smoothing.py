"""Label smoothing of plans against a slow replica and against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional

from auditcore import TrainingPlan
from auditcore.training.training_run import smoothed
from mixed_batches import CLASSES, batch, network


def replica(label: np.ndarray, smoothing: float, *, multi_label: bool) -> np.ndarray:
    """Szegedy et al. 2016, section 7, one number at a time."""
    parts = 2 if multi_label else len(label)
    return np.array([(1 - smoothing) * share + smoothing * (1 / parts) for share in label])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_are_the_replicas(smoothing: float, multi_label: bool) -> None:  # noqa: FBT001 - pytest gives it
    targets = batch(network("sigmoid" if multi_label else "softmax")).targets
    found = smoothed(targets, smoothing, multi_label=multi_label)
    expected = [replica(row, smoothing, multi_label=multi_label) for row in targets.double().numpy()]
    assert found.dtype == torch.float32
    assert np.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_the_loss_is_pytorchs(smoothing: float) -> None:
    trained = network()
    images = batch(trained)
    logits = trained.logits(images.pixels).detach()
    ours = trained.losses(logits, smoothed(images.targets, smoothing, multi_label=False)).mean()
    expected = functional.cross_entropy(logits, images.truth.int().argmax(dim=1), label_smoothing=smoothing)
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)


@given(st.integers(0, CLASSES - 1), st.floats(0, 1, exclude_max=True), st.booleans())
def test_labels_keep_their_order_and_sum(index: int, smoothing: float, multi_label: bool) -> None:  # noqa: FBT001
    target = functional.one_hot(torch.tensor([index]), CLASSES).float()
    found = smoothed(target, smoothing, multi_label=multi_label)
    assert bool((found >= 0).all())
    assert bool((found <= 1).all())
    assert float(found[0, index]) >= float(found.min())
    if not multi_label:
        assert float(found.sum()) == pytest.approx(1, abs=1e-6)


def test_all_of_a_label_cannot_be_spread() -> None:
    with pytest.raises(ValidationError, match="label_smoothing"):
        TrainingPlan(epochs=1, label_smoothing=1.0)
