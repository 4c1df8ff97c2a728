"""The loop: what it computes, that it can be interrupted anywhere, and how it says that it cannot go on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import digits
import small_trainings
from auditcore import (
    Adam,
    AdamW,
    AuditPlan,
    AuditRequest,
    BasicAugmentation,
    CosineAnnealing,
    DeletionCheck,
    EddaCheck,
    EpochAudit,
    GradCam,
    Mixup,
    Sgd,
    StepDecay,
    TrainingRequest,
    audit,
    load_classifier,
    train,
)
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel, Weights
from auditcore.contracts.packaged_models import OnnxModel
from auditcore.contracts.training.optimizers import Optimizer, Schedule
from auditcore.errors import AuditCancelled, BudgetTooSmall, ModelNotTrainable, TrainingDiverged
from auditcore.models.classifier import Classifier
from auditcore.training.draws import generator
from auditcore.training.network import Network
from auditcore.training.optimization import learning_rate
from auditcore.training.results import trained_reference
from auditcore.training.training_run import smoothed

OPTIMIZERS = [Sgd(learning_rate=0.05), Sgd(momentum=0, nesterov=False), Adam(), AdamW(weight_decay=0.1)]


def values(weights: bytes) -> dict[str, Tensor]:
    return safetensors.torch.load(weights)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: f"{one.kind}-{one.weight_decay}")
def test_an_interrupted_training_gives_the_same_bytes(optimizer: Optimizer) -> None:
    """One step at a time, and parts that end within an epoch; the network has dropout and batch normalization."""
    wanted = small_trainings.request(Mixup(), optimizer=optimizer, basic=BasicAugmentation(horizontal_flip=True))
    whole = small_trainings.finished(wanted)
    assert small_trainings.interrupted(wanted, after=1) == whole
    assert small_trainings.interrupted(wanted, after=3) == whole


def test_another_seed_gives_other_weights() -> None:
    assert small_trainings.finished(small_trainings.request(seed=0)) != small_trainings.finished(
        small_trainings.request(seed=1)
    )


def test_a_network_draws_other_numbers_in_every_step() -> None:
    """Such as those of dropout, which would otherwise drop the same features for ever."""
    drawn: list[Tensor] = []

    class Recorded(small_trainings.DropoutNet):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                drawn.append(torch.rand(3))
            return super().forward(x)

    small_trainings.finished(small_trainings.request(epochs=1), small_trainings.start(network=Recorded))
    assert len({tuple(one.tolist()) for one in drawn}) == len(drawn) > 3


def test_global_generators_stay_as_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    small_trainings.finished(small_trainings.request())
    assert torch.equal(torch.rand(2), expected)


class Linear(nn.Module):
    """The only network whose gradient is easy to write by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(x).flatten(1))


def by_hand(wanted: TrainingRequest, begin: Classifier) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Weights, biases and losses of softmax regression, trained in float64 by loops over steps.

    Sources: gradient of cross-entropy, (p - y) x; Nesterov momentum as PyTorch documents it: v = m v + g,
    w -= rate (g + m v); an L2 penalty adds decay * w to g.
    """
    plan, optimizer = wanted.plan, wanted.plan.optimizer
    assert isinstance(optimizer, Sgd)
    training, _ = small_trainings.labeled()
    pixels = training.pixels(range(len(training)))
    x = begin.module.pool(begin.normalize(pixels)).flatten(1).double().numpy()
    y = training.truth.double().numpy()
    y = (1 - plan.label_smoothing) * y + plan.label_smoothing / y.shape[1]
    w, b = begin.module.head.weight.double().numpy().copy(), begin.module.head.bias.double().numpy().copy()
    velocity_w, velocity_b, losses = np.zeros_like(w), np.zeros_like(b), []
    steps = math.ceil(len(x) / plan.batch_size)
    for epoch in range(plan.epochs):
        order = generator(plan.seed, "order", epoch).permutation(len(x))
        mean = []
        for number in range(steps):
            rows = order[number * len(x) // steps : (number + 1) * len(x) // steps]
            scores = x[rows] @ w.T + b
            p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            mean.append(-(y[rows] * np.log(p)).sum(1).mean())
            gradient = (p - y[rows]).T @ x[rows] / len(rows) + optimizer.weight_decay * w
            gradient_b = (p - y[rows]).mean(0) + optimizer.weight_decay * b
            rate = optimizer.learning_rate * (0.1 if epoch >= 1 else 1.0)
            velocity_w = optimizer.momentum * velocity_w + gradient
            velocity_b = optimizer.momentum * velocity_b + gradient_b
            w -= rate * (gradient + optimizer.momentum * velocity_w)
            b -= rate * (gradient_b + optimizer.momentum * velocity_b)
        losses.append(float(np.mean(mean)))
    return w, b, losses


def test_the_loop_agrees_with_one_written_by_hand() -> None:
    wanted = small_trainings.request(
        optimizer=Sgd(learning_rate=0.2, momentum=0.8, weight_decay=0.01),
        schedule=StepDecay(after=(1,), by=0.1),
        label_smoothing=0.2,
    )
    begin = small_trainings.start(network=Linear)
    training = small_trainings.run(wanted, begin)
    training.advance()
    w, b, losses = by_hand(wanted, begin)
    found = values(training.weights())
    np.testing.assert_allclose(found["head.weight"].numpy(), w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["head.bias"].numpy(), b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([one.training_loss for one in training.history.epochs], losses, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_labels_agree_with_pytorch(smoothing: float) -> None:
    network = small_trainings.network()
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 9, 1, 1, 4])
    targets = smoothed(nn.functional.one_hot(labels, 10).float(), smoothing, multi_label=False)
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(network.losses(logits, targets), expected)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))


def test_multi_label_losses_are_means_over_classes() -> None:
    network = small_trainings.network("sigmoid")
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    targets = (torch.rand(3, 10, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    p = logits.double().sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean(dim=1)
    torch.testing.assert_close(network.losses(logits, targets).double(), expected)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (StepDecay(after=(1, 3), by=0.5), [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
        (CosineAnnealing(floor=0.2), [0.2 + 0.8 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]),
    ],
    ids=["step_decay", "cosine"],
)
def test_rates_follow_their_schedule(schedule: Schedule, rates: list[float]) -> None:
    plan = small_trainings.request(schedule=schedule, epochs=4, optimizer=Sgd(learning_rate=1)).plan
    assert [learning_rate(plan, step, steps_per_epoch=2) for step in range(8)] == pytest.approx(rates)


def test_batches_of_an_epoch_hold_every_image_once_and_differ_by_at_most_one() -> None:
    seen: list[tuple[str, ...]] = []
    training = small_trainings.run(small_trainings.request(batch_size=11))
    while training.history.step < training.steps_per_epoch:
        seen.append(training._batch(0, training.history.step).streams.digests)
        training.advance(enough=lambda: True)
    images, _ = small_trainings.labeled()
    assert sorted(digest for batch in seen for digest in batch) == sorted(images.digests)
    assert {len(batch) for batch in seen} <= {len(images) // len(seen), len(images) // len(seen) + 1}


def test_the_model_that_was_named_stays_as_it_is() -> None:
    begin = small_trainings.start()
    before = {name: value.clone() for name, value in begin.module.state_dict().items()}
    small_trainings.finished(small_trainings.request(), begin)
    assert all(torch.equal(before[name], value) for name, value in begin.module.state_dict().items())


def test_the_result_is_the_model_that_an_audit_loads(tmp_path: Path) -> None:
    """Digest, predictions, and what was measured of the explanations after the last epoch."""
    access = digits.access(tmp_path)
    plan = AuditPlan(explainers=(GradCam(),), checks=(EddaCheck(keep=(0.15,)), DeletionCheck()))
    wanted = small_trainings.request(epoch_audit=EpochAudit(plan=plan, images=6, every=2), epochs=3)
    images = digits.encoded(60, labeled=True)
    trained = train(wanted, images=images[:40], validation=images[40:], access=access)
    reference = trained.write(tmp_path / "trained.safetensors")
    classifier = load_classifier(reference, access=access)
    assert classifier.digest == trained.report.trained.record.digest
    assert trained.report.trained.weights == reference.weights.sha256
    report = audit(
        AuditRequest(model=reference, images=small_trainings.ANYWHERE, plan=plan), images=images[40:46], access=access
    )
    means = {
        (one.check, one.explainer, one.metric, one.variant): one.mean for one in (*report.results, *report.controls)
    }
    assert [bool(one.measurements) for one in trained.report.epochs] == [False, True, True]
    measured = trained.report.epochs[-1].measurements
    assert len(measured) > 10
    for one in measured:
        expected = means[one.check, one.explainer, one.metric, one.variant]
        assert one.mean == (None if expected is None else pytest.approx(expected, abs=1e-5)), one


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(TrainingDiverged, match=r"is (nan|inf) in step \d+: .* lower `plan.optimizer") as caught:
        small_trainings.finished(small_trainings.request(optimizer=Sgd(learning_rate=100), epochs=20))
    assert caught.value.field == "plan.optimizer.learning_rate"


class Clock:
    """Every look takes a tenth of a second."""

    def __init__(self) -> None:
        self._looks: Iterator[int] = iter(range(10**9))

    def __call__(self) -> float:
        return next(self._looks) / 10


def with_budget(seconds: float) -> TrainingRequest:
    return small_trainings.request(epochs=6).model_copy(update={"budget_seconds": seconds})


def test_a_budget_below_one_epoch_is_refused_after_a_few_steps() -> None:
    training = small_trainings.run(with_budget(0.5))
    training._clock = Clock()
    with pytest.raises(BudgetTooSmall, match=r"one epoch takes about .* s here, and the budget is 0.5 s") as caught:
        training.advance()
    assert caught.value.field == "budget_seconds"
    assert training.history.step == 3  # not the whole epoch


def test_a_budget_ends_the_training_before_the_epoch_that_would_not_fit() -> None:
    training = small_trainings.run(with_budget(6))
    training._clock = Clock()
    ended = training.advance()
    per_epoch = training.history.seconds / len(training.history.epochs)
    assert ended.stopped == "budget"
    assert 1 <= len(training.history.epochs) < 6
    assert training.history.seconds <= 6 < training.history.seconds + per_epoch


def test_seconds_and_passes_go_on_after_a_checkpoint() -> None:
    wanted = small_trainings.request()
    whole = small_trainings.run(wanted)
    whole.advance()
    first = small_trainings.run(wanted)
    half = first.advance(enough=lambda: first.history.step == 5)
    second = small_trainings.run(wanted)
    second.resume(half.checkpoint)
    second.advance()
    assert second.history.seconds > first.history.seconds > 0
    assert second.history.forward_images == whole.history.forward_images
    assert second.history.backward_images == whole.history.backward_images
    training, _ = small_trainings.labeled()
    assert whole.history.backward_images == 2 * len(training)


def test_progress_counts_up_and_may_cancel() -> None:
    training = small_trainings.run(small_trainings.request())
    told: list[float] = []

    def progress(share: float) -> None:
        told.append(share)
        if len(told) == 4:
            raise AuditCancelled

    with pytest.raises(AuditCancelled):
        training.advance(progress=progress)
    assert told == [(step + 1) / training.steps for step in range(4)]


def test_bf16_leaves_weights_and_losses_in_float32() -> None:
    training = small_trainings.run(small_trainings.request(precision="bf16"))
    training.advance()
    assert {value.dtype for value in values(training.weights()).values()} == {torch.float32, torch.int64}
    assert small_trainings.finished(small_trainings.request()) != training.weights()
    pixels = small_trainings.labeled()[0].pixels(range(2))
    logits = Network(small_trainings.start(), bf16=True).logits(pixels)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, Network(small_trainings.start()).logits(pixels))


class TwoOutputs(small_trainings.DropoutNet):
    """Returns a second tensor while it learns, as networks with auxiliary heads do."""

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return (scores, scores) if self.training else scores  # type: ignore[return-value]


def test_a_model_that_returns_something_else_while_it_learns_is_refused() -> None:
    with pytest.raises(ModelNotTrainable, match="auxiliary outputs"):
        small_trainings.finished(small_trainings.request(), small_trainings.start(network=TwoOutputs))


def test_a_model_whose_weights_cannot_be_given_apart_is_refused() -> None:
    onnx = OnnxModel.model_validate({"uri": "file:///model.onnx", "preprocessing": digits.PREPROCESSING})
    with pytest.raises(ModelNotTrainable, match="kind 'onnx' cannot be trained") as caught:
        train(small_trainings.request().model_copy(update={"model": onnx}), images=digits.encoded(4, labeled=True))
    assert caught.value.field == "model.kind"


DIGEST = f"sha256:{7:064d}"


def test_an_audit_names_the_result_like_any_other_model() -> None:
    random = Weights(uri="random:0")
    timm = TimmModel(name="resnet18", weights=random, classes=7)
    found = trained_reference(timm, DIGEST)
    assert found == timm.model_copy(update={"weights": Weights(uri=f"blob:{DIGEST}", sha256=DIGEST)})
    demo = trained_reference(DemoModel(), DIGEST)
    assert isinstance(demo, FactoryModel)
    assert demo.weights.sha256 == DIGEST


@pytest.mark.parametrize(
    ("name", "uri", "transforms"),
    [("googlenet", "random:1", False), ("googlenet", "file:///w.pth", True), ("resnet18", "random:1", None)],
)
def test_the_input_of_a_network_stays_what_it_was_trained_with(name: str, uri: str, *, transforms: bool | None) -> None:
    """torchvision's published weights of two networks need another input than random ones."""
    model = TorchvisionModel(name=name, weights=Weights(uri=uri))
    found = trained_reference(model, DIGEST)
    assert isinstance(found, TorchvisionModel)
    assert found.transform_input is transforms
