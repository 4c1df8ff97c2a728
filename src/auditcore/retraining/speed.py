"""How fast a model trains and predicts on this machine, and what a measure is therefore expected to cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.request import TrainingRequest
from auditcore.costs.estimate import weight
from auditcore.errors import BudgetTooSmall
from auditcore.models.classifier import Classifier
from auditcore.retraining.pixel_ranks import IMAGES_AT_ONCE
from auditcore.training.evaluation import validate
from auditcore.training.labeled_images import LabeledImages
from auditcore.training.training_run import TrainingRun

STEPS = 3
"""Steps of a trial; the first one is slower than the others and is not counted."""


class MeasuredSpeed(NamedTuple):
    """Seconds of this machine.

    Attributes:
        step: Per training image and epoch.
        validation: Per validation image and epoch, with the copy of the weights that predicts them.
        forward: Per image and forward pass.
    """

    step: float
    validation: float
    forward: float

    def training(self, plan: TrainingPlan, *, training_images: int, validation_images: int) -> float:
        """Seconds of one training."""
        return plan.epochs * (self.step * training_images + self.validation * validation_images)

    def passes(self, passes: Passes) -> float:
        """Seconds of passes that train nothing."""
        return self.forward * weight(passes)


def measured_speed(
    request: TrainingRequest | None,
    start: Classifier,
    training: LabeledImages,
    validation: LabeledImages,
    clock: Callable[[], float],
) -> MeasuredSpeed:
    """Time a few steps of a training that is thrown away, and a few predictions; no pass is counted.

    Args:
        request: The training; None if nothing is trained.
        start: What it starts from.
        training: Images to train on.
        validation: Images to predict.
        clock: Seconds, monotonic.
    """
    few = validation.take(range(min(IMAGES_AT_ONCE, len(validation))))
    pixels = few.pixels(range(len(few))).to(start.device)

    def predict() -> None:
        start.logits(pixels)

    with start.ledger.paused():
        step, checked = (0.0, 0.0) if request is None else _training(request, start, training, few, clock)
        return MeasuredSpeed(step, checked, _seconds(predict, start, clock) / len(few))


def _training(
    request: TrainingRequest,
    start: Classifier,
    training: LabeledImages,
    validation: LabeledImages,
    clock: Callable[[], float],
) -> tuple[float, float]:
    """Seconds of a training image in a step, and of a validation image after an epoch."""
    run = TrainingRun(request, start, training, validation)
    # the end of an epoch would count the validation images too
    steps = max(1, min(STEPS, run.steps_per_epoch - 1))
    times = [clock()]

    def note(_share: float) -> None:
        _wait(start)
        times.append(clock())

    run.advance(progress=note, enough=lambda: len(times) > steps)
    counted = times[1:] if len(times) > 2 else times  # noqa: PLR2004 - a single step has to do
    step = (counted[-1] - counted[0]) / (len(counted) - 1)

    def check() -> None:
        run.network.changed()
        validate(run.network, validation)

    return step * run.steps_per_epoch / len(training), _seconds(check, start, clock) / len(validation)


def _seconds(work: Callable[[], None], classifier: Classifier, clock: Callable[[], float]) -> float:
    """Seconds of work that has been done once before."""
    work()
    _wait(classifier)
    began = clock()
    work()
    _wait(classifier)
    return clock() - began


def _wait(classifier: Classifier) -> None:
    """Wait until the device has done what it was asked to do."""
    if classifier.device.type == "cuda":
        torch.cuda.synchronize(classifier.device)


def require_budget(budget: float | None, estimate: RetrainingCost, *, spent: float = 0.0, left: float = 1.0) -> None:
    """Refuse a measure that would probably not fit into its budget.

    Args:
        budget: Seconds; None for any time.
        estimate: Of the whole.
        spent: Seconds that were computed before.
        left: Share of the estimate that is still to come.

    Raises:
        BudgetTooSmall: It would not fit.
    """
    expected = spent + left * estimate.seconds
    if budget is None or expected <= budget:
        return
    before = f", of which {spent:.3g} s are done" if spent else ""
    msg = (
        f"this measure needs about {expected:.3g} s here{before}: {estimate.trainings} trainings, "
        f"{estimate.forward_images} images forward and {estimate.backward_images} back; the budget is {budget:g} s. "
        "Raise `budget_seconds`, or take fewer images, explainers, shares, repeats or epochs"
    )
    raise BudgetTooSmall(msg, field="budget_seconds")
