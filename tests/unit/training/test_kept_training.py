"""Trainings that go on from what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

import digits
import small_trainings
from auditcore import Mixup
from auditcore.contracts.access import Limits
from auditcore.errors import AuditCancelled, CheckpointInvalid, WorkInterrupted
from auditcore.kept_files import KeptFolder
from auditcore.training.kept_training import read_trained, train_in_parts
from auditcore.training.local_training import PreparedTraining, Trained, prepare_training

SEED = 3


def prepared(seed: int = SEED) -> PreparedTraining:
    """A training as another process prepares it anew."""
    wanted = small_trainings.request(Mixup(), seed=seed)
    return prepare_training(wanted, small_trainings.start(), digits.encoded(50, labeled=True), None, Limits())


def numbers(trained: Trained) -> object:
    """Everything in a report that does not depend on the clock."""
    return [epoch.model_dump(exclude={"seconds"}) for epoch in trained.report.epochs], trained.report.trained.weights


def test_a_training_interrupted_after_every_step_gives_the_same_weights_and_forgets_its_checkpoint(
    tmp_path: Path,
) -> None:
    whole = train_in_parts(prepared(), KeptFolder(tmp_path / "whole"), "mixup-3")
    kept, parts = KeptFolder(tmp_path / "parts"), 0
    while read_trained(kept, "mixup-3") is None:
        parts += 1
        try:
            train_in_parts(prepared(), kept, "mixup-3", enough=lambda: True)
        except WorkInterrupted:
            assert kept.read("checkpoints/mixup-3") is not None
    found = read_trained(kept, "mixup-3")
    assert found is not None
    assert parts == prepared().run.steps
    assert found.weights == whole.weights
    assert numbers(found) == numbers(whole)
    assert kept.read("checkpoints/mixup-3") is None


def test_a_process_that_ends_without_warning_loses_no_more_than_since_the_last_checkpoint(tmp_path: Path) -> None:
    whole = train_in_parts(prepared(), KeptFolder(tmp_path / "whole"), "mixup-3")
    kept, steps = KeptFolder(tmp_path / "parts"), prepared().run.steps
    done: list[float] = []

    def die_at_the_fourth(share: float) -> None:
        done.append(share)
        if len(done) == 4:
            raise AuditCancelled

    with pytest.raises(AuditCancelled):
        train_in_parts(prepared(), kept, "mixup-3", progress=die_at_the_fourth, checkpoint_s=0)
    first = len(done)
    found = train_in_parts(prepared(), kept, "mixup-3", progress=done.append)
    assert found.weights == whole.weights
    # the step that was lost is taken again, and no other
    assert [round(share * steps) for share in done] == [*range(1, first + 1), *range(first, steps + 1)]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    kept = KeptFolder(tmp_path)
    with pytest.raises(WorkInterrupted):
        train_in_parts(prepared(), kept, "mixup", enough=lambda: True)
    with pytest.raises(CheckpointInvalid):
        train_in_parts(prepared(SEED + 1), kept, "mixup")


def test_weights_without_a_report_are_not_a_training_that_is_done(tmp_path: Path) -> None:
    kept = KeptFolder(tmp_path)
    train_in_parts(prepared(), kept, "mixup")
    kept.forget("trainings/mixup.json")
    assert read_trained(kept, "mixup") is None
