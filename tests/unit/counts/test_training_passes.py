"""Expected passes of parts of a training add up to those of all of it."""

from __future__ import annotations

import pytest

from auditcore.contracts.checks import DeletionCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.input_shape import TYPICAL
from auditcore.contracts.models import DemoModel, TorchvisionModel, Weights
from auditcore.contracts.pass_counts import Passes, total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.training.plan import EpochAudit, TrainingPlan
from auditcore.costs.cost_model import model_identity, network_identity
from auditcore.costs.training_estimate import passes_of_steps, training_passes
from auditcore.costs.training_speed import training_identity, training_way_identity

AUDIT = AuditPlan(explainers=(Gradient(),), checks=(DeletionCheck(grid=2, repeats=1),))
PLAN = TrainingPlan(epochs=5, batch_size=8, epoch_audit=EpochAudit(plan=AUDIT, images=3, every=2))
TRAINING, VALIDATION = 30, 10
PER_EPOCH = 4


def of(start: int, stop: int, plan: TrainingPlan = PLAN) -> Passes:
    return passes_of_steps(plan, start, stop, training=TRAINING, validation=VALIDATION, shape=TYPICAL)


@pytest.mark.parametrize("length", [1, 3, 4, 7, 20])
def test_parts_add_up(length: int) -> None:
    steps = PER_EPOCH * PLAN.epochs
    parts = total(of(start, min(start + length, steps)) for start in range(0, steps, length))
    assert parts == training_passes(PLAN, training=TRAINING, validation=VALIDATION, shape=TYPICAL)
    plain = PLAN.model_copy(update={"epoch_audit": None})
    without = total(of(start, min(start + length, steps), plain) for start in range(0, steps, length))
    # 30 images to learn from and 10 to measure in each of 5 epochs
    assert without == Passes(forward=5 * 40, backward=5 * 30)


def test_the_step_that_ends_an_epoch_has_its_validation_and_audit() -> None:
    plain = PLAN.model_copy(update={"epoch_audit": None})
    # batches of 30 images in 4 steps: 7, 8, 7, 8
    assert [of(step, step + 1, plain).forward for step in range(4)] == [7, 8, 7, 8 + VALIDATION]
    audits = [of(step, step + 1).forward - of(step, step + 1, plain).forward for step in range(20)]
    # every second epoch, and the last one
    assert [step for step, passes in enumerate(audits) if passes] == [7, 15, 19]
    assert len({passes for passes in audits if passes}) == 1


def test_models_train_at_one_speed_whatever_their_weights_are() -> None:
    first, second = (TorchvisionModel(name="resnet18", weights=Weights(uri=f"random:{seed}")) for seed in range(2))
    other = TorchvisionModel(name="resnet50", weights=Weights(uri="random:0"))
    assert training_identity(first) == training_identity(second) != training_identity(other)
    assert training_identity(first) not in {model_identity(first), network_identity(first)}
    assert training_identity(DemoModel()) == training_identity(DemoModel().as_factory())


def test_plans_differ_in_speed_by_what_a_pass_is() -> None:
    way = training_way_identity(PLAN)
    for same in ({"seed": 3}, {"epochs": 9}, {"share": 0.5}, {"label_smoothing": 0.1}):
        assert training_way_identity(PLAN.model_copy(update=same)) == way
    for other in ({"batch_size": 9}, {"precision": "bf16"}, {"epoch_audit": None}):
        assert training_way_identity(PLAN.model_copy(update=other)) != way
