"""Networks that know some digits, and batches of digits, for tests of methods that train on explanations."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

import digits
import small_trainings
from auditcore.contracts.models import Scores
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from auditcore.training.draws import generator
from auditcore.training.method import MethodSetting, TrainingBatch
from auditcore.training.network import Network
from reference_training import Slow


@functools.cache
def _trained() -> Mapping[str, Tensor]:
    training = small_trainings.run(small_trainings.request(epochs=10, batch_size=20), count=200)
    training.advance()
    return training.network.module.state_dict()


@functools.cache
def knowing(scores: Scores = "softmax") -> Classifier:
    """A classifier that is right on about three digits in four; with `sigmoid`, it predicts several classes."""
    module = small_trainings.DropoutNet()
    module.load_state_dict(_trained())
    if scores == "sigmoid":
        with torch.inference_mode(mode=False), torch.no_grad():
            module.head.bias += 2
    return Classifier(module, preprocessing=digits.PREPROCESSING, scores=scores)


def network(scores: Scores = "softmax") -> Network:
    """A network to learn with, whose weights nobody else changes."""
    return Network(knowing(scores))


def setting(own: Network, *, epochs: int = 4) -> MethodSetting:
    """What a method may know before the first batch."""
    return MethodSetting(own, steps_per_epoch=5, epochs=epochs, seed=0)


def slow(own: Network) -> Slow:
    """The same weights in float64."""
    module = small_trainings.DropoutNet()
    module.load_state_dict(own.module.state_dict())
    return Slow(module, digits.PREPROCESSING.mean, digits.PREPROCESSING.std)


def layer(own: Network) -> str:
    """The layer that Grad-CAM takes."""
    name = own.start.last_feature_layer
    assert name is not None
    return name


def batch(
    rows: Sequence[int] = range(200, 224), *, step: int = 0, epoch: int = 0, epochs: int = 4, several: bool = False
) -> TrainingBatch:
    """Digits that no network here was trained on.

    Args:
        rows: Their positions.
        step: Number of the step.
        epoch: Number of the epoch.
        epochs: Number of epochs.
        several: Whether images have two labels: their digit, and the one above it.
    """
    pixels, labels = digits.digit_pixels()
    truth = torch.nn.functional.one_hot(labels[list(rows)], 10).bool()
    if several:
        truth = truth | truth.roll(1, dims=1)
    # labels that are a little smooth, so that a test sees which targets a copy got
    targets = truth.float() * 0.9 + 0.01
    return TrainingBatch(
        pixels=pixels[list(rows)],
        truth=truth,
        targets=targets if several else targets / targets.sum(dim=1, keepdim=True),
        streams=Streams(0, tuple(f"digit {row}" for row in rows), views=(f"step {step}",) * len(rows)),
        random=generator(0, "method", step),
        step=step,
        epoch=epoch,
        epochs=epochs,
    )


def mean_color() -> np.ndarray:
    """The mean color of the network's input."""
    return np.array(digits.PREPROCESSING.mean)
