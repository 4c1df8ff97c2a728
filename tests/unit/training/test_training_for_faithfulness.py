"""Sense: fine-tuning on explanations makes them more faithful than plain fine-tuning does, with the same seeds."""

from __future__ import annotations

import functools
from typing import NamedTuple

import pytest

import digits
import small_trainings
from auditcore import Adam, AuditPlan, DeletionCheck, DeletionLoss, Edda, EddaCheck, EpochAudit, GradCam, Plain
from auditcore.contracts.access import Limits
from auditcore.contracts.training.methods import TrainingMethod
from auditcore.models.classifier import Classifier
from auditcore.training.labeled_images import read_labeled
from auditcore.training.training_run import TrainingRun

pytestmark = [pytest.mark.slow, pytest.mark.long]

TRAINED, MEASURED, EPOCHS = 300, 100, 5
METRICS = EpochAudit(
    plan=AuditPlan(explainers=(GradCam(),), checks=(EddaCheck(keep=(0.15, 0.3)), DeletionCheck(repeats=2))),
    images=MEASURED,
    every=EPOCHS,
)


class Measured(NamedTuple):
    """Means over images that nothing was trained on."""

    score: float
    inter_model_deletion: float
    drop_percent: dict[str | None, float]


@functools.cache
def fine_tuned(method: TrainingMethod, seed: int) -> Measured:
    """A network that knows the digits, after five epochs more."""
    begin = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    images = digits.encoded(TRAINED + MEASURED, labeled=True)
    training, _ = read_labeled(images[:TRAINED], use="training", model=begin, limits=Limits())
    validation, _ = read_labeled(images[TRAINED:], use="validation", model=begin, limits=Limits())
    wanted = small_trainings.request(
        method, epochs=EPOCHS, batch_size=50, seed=seed, optimizer=Adam(learning_rate=0.001), epoch_audit=METRICS
    )
    run = TrainingRun(wanted, begin, training, validation)
    run.advance()
    last = run.history.epochs[-1]
    means = {
        (one.metric, one.variant): one.mean
        for one in last.measurements
        if one.explainer == "grad_cam" and one.mean is not None
    }
    assert last.validation_score is not None
    return Measured(
        last.validation_score,
        means["inter_model_deletion", None],
        {variant: mean for (metric, variant), mean in means.items() if metric == "drop_percent"},
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_the_deletion_loss_raises_inter_model_deletion(seed: int) -> None:
    """By half, for seven points of accuracy; of five seeds tried, the score rose in all five."""
    plain, faithful = fine_tuned(Plain(), seed), fine_tuned(DeletionLoss(steps=4), seed)
    assert faithful.inter_model_deletion > plain.inter_model_deletion + 0.03
    assert faithful.score > plain.score - 0.15


@pytest.mark.parametrize("seed", [0, 1])
def test_edda_lowers_drop_percent(seed: int) -> None:
    """Masked with the mean color, which costs no accuracy here; of five seeds tried, it fell in all five."""
    plain, faithful = fine_tuned(Plain(), seed), fine_tuned(Edda(color="mean"), seed)
    assert faithful.drop_percent["top_15"] < plain.drop_percent["top_15"] - 2
    assert faithful.score > plain.score - 0.05


def test_edda_as_the_paper_has_it_lowers_drop_percent_and_costs_accuracy() -> None:
    """Black masks. Of the paper's shares, 30 percent is shown; 15 percent fell in all of five seeds, in one by one."""
    plain, faithful = fine_tuned(Plain(), 0), fine_tuned(Edda(), 0)
    assert faithful.drop_percent["top_30"] < plain.drop_percent["top_30"] - 2
    assert faithful.score < plain.score
