"""Computes shards of audits, steps of trainings and stages of experiments in its own process, with torch."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch

from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.report import AuditReport
from auditcore.contracts.shards import EndOfProcess
from auditcore.devices.allocator import give_back_freed_memory
from auditcore.engine.inspection import inspect
from auditcore.engine.shard_task import Runtime
from auditcore.orchestration.audit_run import AuditRun
from auditcore.orchestration.sharding import ShardRange
from auditcore.sources.fetching import BlobReader
from auditcore_service.worker.compute_settings import ComputingSettings
from auditcore_service.worker.computer import AssemblyFacts, AuditTask, ComputedShard
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.in_process_experiment import InProcessExperiment
from auditcore_service.worker.in_process_training import InProcessTraining
from auditcore_service.worker.model_cache import ModelCache
from auditcore_service.worker.training_task import FinishedTraining, TrainedSteps, TrainingTask

GIVE_BACK_S = 60.0
"""Shortest time between two returns of freed memory to the system, so that they cost less than 1 % of the time."""

GROUP_S = 60.0
"""About how long a group of images may take: a worker that is told to stop, or dies, repeats at most one group."""


@final
@dataclass(frozen=True)
class _CurrentAudit:
    """The audit that this process worked on last."""

    task: AuditTask
    run: AuditRun


@final
class InProcessComputer:
    """Keeps the last models in memory; a `Computer`.

    Attributes:
        device: Where it computes.
    """

    def __init__(self, settings: ComputingSettings) -> None:
        self.device = device_of(settings)
        self._settings = settings
        self._models = ModelCache(size=settings.cached_models, device=self.device, access=settings.access)
        self._training = InProcessTraining(settings, self._models)
        self._experiment = InProcessExperiment(settings, self.device)
        self._current: _CurrentAudit | None = None
        self._gave_back_at = time.monotonic()

    def run_shard(
        self,
        audit: AuditTask,
        part: ShardRange,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
        left_out: Mapping[int, EndOfProcess] | None = None,
        images_begin: Callable[[], None] = lambda: None,
    ) -> ComputedShard:
        """Load the models of a shard, and run its wave; `images_begin` is called before the first image is decoded."""
        self._training.forget()
        self._experiment.forget()
        run = self._run_of(audit)
        self._settings.access.check_explainers(audit.plan.explainers)
        references = run.references_of(part)
        load = functools.partial(
            self._models.get, purpose=audit.id, tenant=audit.tenant, blobs=audit.blobs, together=1 + len(references)
        )
        others = {name: run.load_model(model, load) for name, model in references.items()}
        classifier = run.load_model(part.model, load)
        cold = classifier.at_speed(audit.plan.speed).calibration is None
        progress(0.0)
        runtime = Runtime(
            classifier,
            references=others,
            limits=self._settings.limits,
            micro_batch=self._settings.micro_batch,
            progress=progress,
            begin_images=images_begin,
            enough=enough,
            group_s=GROUP_S,
        )
        result = run.run_shard(part, runtime, left_out=left_out)
        self._give_back_memory()
        # each image has a record, whatever became of it
        return ComputedShard(result, stop=part.start + len(result.images), cold=cold)

    def stop_at(self, audit: AuditTask) -> int | None:
        """Number of images in the random order after which the audit may end; None while it must go on."""
        return self._run_of(audit).stop_at()

    def assemble(self, audit: AuditTask, facts: AssemblyFacts) -> AuditReport:
        """Make the report from the results of all shards."""
        return self._run_of(audit).assemble(
            attempts=facts.attempts,
            estimated_seconds=facts.estimated_seconds,
            started_at=facts.started_at,
            finished_at=facts.finished_at,
            baseline=facts.baseline,
        )

    def train(
        self,
        training: TrainingTask,
        start: int,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
        steps_begin: Callable[[], None] = lambda: None,
    ) -> TrainedSteps:
        """Train, from the newest checkpoint on; `steps_begin` is called before the first step."""
        self._current = None
        self._experiment.forget()
        done = self._training.train(training, start, progress=progress, enough=enough, steps_begin=steps_begin)
        self._give_back_memory()
        return done

    def finish(
        self,
        training: TrainingTask,
        *,
        attempts: int,
        progress: Callable[[float], None] = lambda _: None,
    ) -> FinishedTraining:
        """Make weights and report of a training from its last checkpoint."""
        return self._training.finish(training, attempts=attempts, progress=progress)

    def run_stage(
        self,
        experiment: ExperimentTask,
        stage: Stage,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
        stage_begins: Callable[[], None] = lambda: None,
    ) -> bool:
        """Do a stage of an experiment; `stage_begins` is called when its images are read."""
        self._current = None
        self._training.forget()
        ended = self._experiment.run_stage(
            experiment, stage, progress=progress, enough=enough, stage_begins=stage_begins
        )
        self._give_back_memory()
        return ended

    def inspect(
        self, request: InspectionRequest, reference: ModelReference, *, purpose: str, tenant: str, blobs: BlobReader
    ) -> Inspection:
        """Load a model and say what runs on it."""
        self._training.forget()
        self._experiment.forget()
        self._settings.access.check_explainers(request.explainers)
        classifier = self._models.get(reference, purpose=purpose, tenant=tenant, blobs=blobs)
        return inspect(classifier, request, reference)

    def close(self) -> None:
        """Nothing to do: memory goes with the process."""

    def _run_of(self, audit: AuditTask) -> AuditRun:
        """The run of an audit; kept while the shards that follow belong to it.

        What it remembers never changes: no shard of the compute wave is queued before all shards of the measure wave
        are done.
        """
        if self._current is None or self._current.task.id != audit.id:
            run = AuditRun(
                audit.id,
                audit.request,
                audit.plan,
                images=audit.images,
                storage=audit.storage,
                picture_images=self._settings.picture_images,
            )
            self._current = _CurrentAudit(audit, run)
        return self._current.run

    def _give_back_memory(self) -> None:
        """Return freed memory to the system between shards, but not after every short one."""
        if time.monotonic() - self._gave_back_at > GIVE_BACK_S:
            give_back_freed_memory()
            self._gave_back_at = time.monotonic()


def device_of(settings: ComputingSettings) -> str:
    """Where this process computes: `auto` is the first GPU if there is one."""
    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"
