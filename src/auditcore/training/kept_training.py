"""A training whose checkpoints are kept, so that it can be interrupted at any time and goes on to the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable

from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.training.report import Stopped, TrainingReport
from auditcore.errors import WorkInterrupted
from auditcore.kept_files import KeptFiles
from auditcore.training.local_training import PreparedTraining, Trained
from auditcore.training.training_run import TrainingRun

CHECKPOINT_S = 60.0
"""Seconds between two checkpoints: what an interruption without warning costs at most."""


def read_trained(kept: KeptFiles, name: str) -> Trained | None:
    """A training that is done; None if it is not, or if its weights are damaged.

    Args:
        kept: Holds `trainings/NAME.json` and `weights/NAME.safetensors`.
        name: Of the training.
    """
    report, weights = kept.read(report_name(name)), kept.read(weights_name(name))
    if report is None or weights is None:
        return None
    found = Trained(TrainingReport.model_validate_json(report), weights)
    return found if sha256(weights) == found.report.trained.weights else None


def train_in_parts(
    prepared: PreparedTraining,
    kept: KeptFiles,
    name: str,
    *,
    progress: Callable[[float], None] = lambda _share: None,
    enough: Callable[[], bool] = lambda: False,
    checkpoint_s: float = CHECKPOINT_S,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train from the kept checkpoint on, if there is one, and keep weights and report.

    Args:
        prepared: Model and images; no step is taken yet.
        kept: Where checkpoints and results are kept.
        name: Of the training; also its name in the report.
        progress: Called after each step with the share done, in [0,1]; may raise AuditCancelled.
        enough: Asked after each step; once it says so, the checkpoint is kept and WorkInterrupted raised.
        checkpoint_s: Seconds between two checkpoints.
        clock: Seconds, monotonic.

    Raises:
        WorkInterrupted: It was enough for now; the next call goes on.
        InputError: The training cannot be carried out.
    """
    stopped = advance_in_parts(
        prepared.run, kept, name, progress=progress, enough=enough, checkpoint_s=checkpoint_s, clock=clock
    )
    trained = prepared.result(name, stopped=stopped)
    # the weights first, so that a report stands for a whole result
    kept.keep(weights_name(name), trained.weights)
    kept.keep(report_name(name), trained.report.model_dump_json(indent=2).encode())
    kept.forget(checkpoint_name(name))
    return trained


def advance_in_parts(
    run: TrainingRun,
    kept: KeptFiles,
    name: str,
    *,
    progress: Callable[[float], None] = lambda _share: None,
    enough: Callable[[], bool] = lambda: False,
    checkpoint_s: float = CHECKPOINT_S,
    clock: Callable[[], float] = time.monotonic,
) -> Stopped:
    """Take all steps of a training, from its kept checkpoint on if there is one.

    The caller keeps the result, and then forgets the checkpoint.

    Args:
        run: The training; no step is taken yet.
        kept: Where its checkpoint is kept.
        name: Of the training. Trainings on changed pixels of the same files need names of their own, because a
            checkpoint knows the files only.
        progress: As in `train_in_parts`.
        enough: As in `train_in_parts`.
        checkpoint_s: As in `train_in_parts`.
        clock: As in `train_in_parts`.

    Returns:
        Why it has ended.

    Raises:
        WorkInterrupted: It was enough for now; the next call goes on.
        InputError: The training cannot be carried out.
    """
    checkpoint = checkpoint_name(name)
    known = kept.read(checkpoint)
    if known is not None:
        run.resume(known)
    while True:
        due, stop = clock() + checkpoint_s, False

        def pause(due: float = due) -> bool:
            nonlocal stop
            stop = enough()
            return stop or clock() >= due

        end = run.advance(progress=progress, enough=pause)
        if end.stopped is not None:
            return end.stopped
        kept.keep(checkpoint, end.checkpoint)
        if stop:
            raise WorkInterrupted


def weights_name(name: str) -> str:
    """Where the weights of a training are kept."""
    return f"weights/{name}.safetensors"


def report_name(name: str) -> str:
    """Where the report of a training is kept."""
    return f"trainings/{name}.json"


def checkpoint_name(name: str) -> str:
    """Where the checkpoint of a training is kept; one that ended between two files may leave it behind."""
    return f"checkpoints/{name}"
