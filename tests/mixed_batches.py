"""A small network and batches for tests of training methods, and what a method shows to the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from auditcore.contracts.models import Scores
from auditcore.contracts.preprocessing import Preprocessing, Size
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from auditcore.training.draws import generator
from auditcore.training.method import Method, TrainingBatch
from auditcore.training.network import Network

HEIGHT, WIDTH, CLASSES = 12, 20, 4
"""Not square, so that rows and columns cannot be exchanged unseen."""

PREPROCESSING = Preprocessing(
    resize=Size(height=HEIGHT, width=WIDTH),
    fit="squash",
    crop=Size(height=HEIGHT, width=WIDTH),
    mean=(0.4, 0.5, 0.6),
    std=(0.3, 0.2, 0.25),
)


def convolutional(channels: int = 3) -> nn.Module:
    """Two convolutions and a linear layer, without anything random."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(channels, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        )


def network(
    scores: Scores = "softmax", module: nn.Module | None = None, preprocessing: Preprocessing = PREPROCESSING
) -> Network:
    return Network(Classifier(module or convolutional(), preprocessing=preprocessing, scores=scores))


def batch(trained: Network, count: int = 6, *, seed: int = 0, step: int = 0) -> TrainingBatch:
    """Random images with random labels; several of an image for a multi-label network."""
    numbers = torch.Generator().manual_seed(seed * 1000 + step)
    pixels = torch.rand(count, *trained.start.shape, generator=numbers)
    if trained.scores == "softmax":
        truth = nn.functional.one_hot(torch.randint(trained.classes, (count,), generator=numbers), trained.classes) > 0
    else:
        truth = torch.rand(count, trained.classes, generator=numbers) > 0.5
    return TrainingBatch(
        pixels=pixels,
        truth=truth,
        targets=truth.float(),
        streams=Streams(seed, tuple(f"image {row}" for row in range(count))),
        random=generator(seed, "method", step),
        step=step,
        epoch=0,
        epochs=1,
    )


class Shown(NamedTuple):
    """What a step did.

    Attributes:
        loss: What the method answered.
        facts: What it says of the step.
        pixels: What the network saw, in pixel space.
        logits: What it answered.
    """

    loss: float
    facts: Mapping[str, float]
    pixels: Tensor
    logits: Tensor


def run_step(method: Method, trained: Network, images: TrainingBatch) -> Shown:
    """Run one step and see what passes through the network."""
    seen: list[Tensor] = []

    def see(_module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.extend((inputs[0].detach(), output.detach()))

    handle = trained.module.register_forward_hook(see)
    try:
        step = method.step(trained, images)
    finally:
        handle.remove()
    inputs, logits = seen
    return Shown(float(step.loss.detach()), step.facts, inputs * trained.start.std + trained.start.mean, logits)
