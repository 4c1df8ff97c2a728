"""Trains in its own process, with torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from auditcore.contracts.training.allowed_explainers import check_training_explainers
from auditcore.contracts.training.report import Stopped
from auditcore.costs.estimate import weight
from auditcore.costs.image_size import input_shape_of
from auditcore.costs.training_estimate import passes_of_steps
from auditcore.devices.exhaustion import is_out_of_memory
from auditcore.errors import LimitExceeded, MemoryExhausted
from auditcore.images.encoded import EncodedImage
from auditcore.training.local_training import PreparedTraining, prepare_training
from auditcore_service.worker.compute_settings import ComputingSettings
from auditcore_service.worker.model_cache import ModelCache
from auditcore_service.worker.training_task import FinishedTraining, ImageStorage, TrainedSteps, TrainingTask

CHECKPOINT_BYTES = 2**30 - 2**20
"""Most bytes of a checkpoint: it is one frame between worker and process. A ResNet-50 with momentum has 200 MB."""

READ_AT_ONCE = 64
"""Images that are asked for at once; a batch of photos would be too much for one frame."""

ASK_S = 0.05
"""Shortest time between two questions whether it is enough: steps of small models take milliseconds."""


@final
@dataclass(frozen=True)
class _CurrentTraining:
    """The training that this process worked on last, as it is after its last step.

    Attributes:
        id: Of the training.
        prepared: Model and images.
        stopped: Why it has ended; None if there is more to do.
    """

    id: str
    prepared: PreparedTraining
    stopped: Stopped | None


@final
class InProcessTraining:
    """Takes steps of trainings. The last training stays in memory, so that its next part can begin at once."""

    def __init__(self, settings: ComputingSettings, models: ModelCache) -> None:
        self._settings = settings
        self._models = models
        self._current: _CurrentTraining | None = None

    def train(
        self,
        training: TrainingTask,
        start: int,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
        steps_begin: Callable[[], None] = lambda: None,
    ) -> TrainedSteps:
        """Take steps until the end, or until it is enough; `steps_begin` is called before the first.

        Raises:
            InputError: The training cannot be carried out.
            AuditCancelled: `progress` has raised it.
        """
        with memory_is_enough():
            prepared = self._at(training, start, progress)
            # what fails in the middle of a step is not gone on with
            self._current = None
            run = prepared.run
            left = max(1, run.steps - start)
            seconds_before = run.history.seconds
            steps_begin()
            end = run.advance(
                progress=lambda share: progress((round(share * run.steps) - start) / left),
                enough=asked_now_and_then(enough),
            )
        if len(end.checkpoint) > CHECKPOINT_BYTES:
            raise LimitExceeded(
                what="the checkpoint of the training",
                limit=CHECKPOINT_BYTES,
                actual=len(end.checkpoint),
                unit="bytes",
                field="model",
            )
        self._current = _CurrentTraining(training.id, prepared, end.stopped)
        needed = passes_of_steps(
            training.request.plan,
            start,
            end.step,
            training=len(prepared.sets.training),
            validation=len(prepared.sets.validation),
            # counted with the input shape that an estimate knows, so that both count alike
            shape=input_shape_of(training.request.model),
        )
        return TrainedSteps(
            end.checkpoint,
            stop=end.step,
            ended=end.stopped is not None,
            passes=weight(needed),
            seconds=run.history.seconds - seconds_before,
            device=str(prepared.start.device),
        )

    def finish(self, training: TrainingTask, *, attempts: int, progress: Callable[[float], None]) -> FinishedTraining:
        """Make weights and report of a training that has ended.

        Raises:
            InputError: Its images or its checkpoint can no longer be used.
        """
        with memory_is_enough():
            current = self._current
            if current is None or current.id != training.id or current.stopped is None:
                prepared = self._prepared(training, progress)
                prepared.run.resume(training.checkpoint())
                stopped = prepared.run.advance(enough=lambda: True).stopped
                assert stopped is not None  # noqa: S101 - its last checkpoint was made at the end
            else:
                prepared, stopped = current.prepared, current.stopped
            result = prepared.result(training.id, stopped=stopped, attempts=attempts)
        self._current = None
        return FinishedTraining(result.report, result.weights)

    def forget(self) -> None:
        """Make room for other work; the training goes on from its checkpoint."""
        self._current = None

    def _at(self, training: TrainingTask, start: int, progress: Callable[[float], None]) -> PreparedTraining:
        """A training whose next step is this one."""
        current = self._current
        if current is not None and current.id == training.id and current.prepared.run.history.step == start:
            return current.prepared
        prepared = self._prepared(training, progress)
        if start:
            prepared.run.resume(training.checkpoint())
        return prepared

    def _prepared(self, training: TrainingTask, progress: Callable[[float], None]) -> PreparedTraining:
        self._current = None
        request = training.request
        check_training_explainers(request.plan, self._settings.access)
        start = self._models.get(request.model, purpose=training.id, tenant=training.tenant, blobs=training.blobs)
        first = training.training_images
        images = read_range(training.storage, range(first), progress)
        validation = read_range(training.storage, range(first, first + training.validation_images), progress)
        return prepare_training(request, start, images, validation or None, self._settings.limits)


def read_range(storage: ImageStorage, indices: range, progress: Callable[[float], None]) -> list[EncodedImage]:
    """Images in pieces that fit into a frame.

    Args:
        storage: Has them.
        indices: Which of them.
        progress: Called before slow reads; may raise AuditCancelled.
    """
    images: list[EncodedImage] = []
    for begin in range(0, len(indices), READ_AT_ONCE):
        images.extend(storage.read_images(indices[begin : begin + READ_AT_ONCE], progress=progress))
    return images


def asked_now_and_then(enough: Callable[[], bool]) -> Callable[[], bool]:
    """The same question, passed on at most every `ASK_S` seconds; the answer in between is no."""
    asked = time.monotonic()

    def ask() -> bool:
        nonlocal asked
        if time.monotonic() - asked < ASK_S:
            return False
        asked = time.monotonic()
        return enough()

    return ask


@contextmanager
def memory_is_enough(*, field: str = "plan.batch_size") -> Iterator[None]:
    """Say what to do where memory runs out.

    Args:
        field: The field of the request to blame.

    Raises:
        MemoryExhausted: It did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        msg = "memory ran out in training; use a smaller `batch_size`, smaller images, or a smaller model"
        raise MemoryExhausted(msg, field=field) from error
