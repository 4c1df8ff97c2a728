"""Small trainings on digits, for tests: each takes a fraction of a second."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

import digits
from auditcore import Adam, HeldOut, ImageBatchReference, TrainingPlan, TrainingRequest
from auditcore.contracts.access import Limits
from auditcore.contracts.models import FactoryModel, Scores, Weights
from auditcore.contracts.training.methods import TrainingMethod
from auditcore.contracts.training.methods.plain import Plain
from auditcore.models.classifier import Classifier
from auditcore.training.labeled_images import LabeledImages, held_out, read_labeled
from auditcore.training.network import Network
from auditcore.training.training_run import TrainingRun

ANYWHERE = ImageBatchReference(digest=f"sha256:{0:064d}")
"""Takes the place of images that a test passes itself."""


class DropoutNet(nn.Module):
    """A network that draws random numbers of its own while it learns, and has batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.second_relu = nn.ReLU()
        self.drop = nn.Dropout(0.3)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = self.second_relu(self.second(x))
        return self.head(self.drop(self.pool(x).flatten(1)))


def start(scores: Scores = "softmax", network: type[nn.Module] = DropoutNet) -> Classifier:
    """A classifier of digits with random weights, to start from."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Classifier(network(), preprocessing=digits.PREPROCESSING, scores=scores, trained=False)


def request(method: TrainingMethod | None = None, **changes: object) -> TrainingRequest:
    """A training of two epochs; `changes` are fields of its plan."""
    plan = {"epochs": 2, "batch_size": 9, "optimizer": Adam(learning_rate=0.01), "method": method or Plain()} | changes
    return TrainingRequest(
        model=FactoryModel(target="digits:build", weights=Weights(uri="random:0"), preprocessing=digits.PREPROCESSING),
        images=ANYWHERE,
        plan=TrainingPlan.model_validate(plan),
    )


@functools.cache
def labeled(count: int = 50, scores: Scores = "softmax") -> tuple[LabeledImages, LabeledImages]:
    """Digits to train on and to validate on."""
    found, _ = read_labeled(digits.encoded(count, labeled=True), use="training", model=start(scores), limits=Limits())
    return held_out(found, HeldOut().share, seed=0)


def run(wanted: TrainingRequest, begin: Classifier | None = None, *, count: int = 50) -> TrainingRun:
    """A training that has not begun."""
    begin = begin or start()
    training, validation = labeled(count, begin.scores)
    return TrainingRun(wanted, begin, training, validation)


def finished(wanted: TrainingRequest, begin: Classifier | None = None) -> bytes:
    """The weights of a training that was never interrupted."""
    training = run(wanted, begin)
    training.advance()
    return training.weights()


def interrupted(wanted: TrainingRequest, begin: Classifier | None = None, *, after: int) -> bytes:
    """The weights of a training that was ended after each `after` steps and went on in a new object."""
    checkpoint: bytes | None = None
    while True:
        part = run(wanted, begin)
        if checkpoint is not None:
            part.resume(checkpoint)
        target = part.history.step + after
        ended = part.advance(enough=lambda part=part, target=target: part.history.step >= target)
        if ended.stopped is not None:
            return part.weights()
        checkpoint = ended.checkpoint


def network(scores: Scores = "softmax") -> Network:
    """A network to learn with."""
    return Network(start(scores))
