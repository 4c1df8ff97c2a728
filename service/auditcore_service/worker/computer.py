"""What computes the shards of a worker. It runs code of models, and knows neither the database nor the queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, final

from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import EndOfProcess, ShardResult
from auditcore.orchestration.sharding import ShardRange
from auditcore.orchestration.storage import AuditStorage
from auditcore.sources.fetching import BlobReader
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.training_task import FinishedTraining, TrainedSteps, TrainingTask


@final
@dataclass(frozen=True)
class AuditTask:
    """One audit, as a computer needs to know it.

    Attributes:
        id: Of the audit.
        tenant: Whose it is; models are kept for one tenant.
        request: What to audit, with resolved models.
        plan: The plan in full.
        images: Number of images of the batch.
        storage: Holds the images and everything that the audit makes.
        blobs: Reads uploaded weights.
    """

    id: str
    tenant: str
    request: AuditRequest
    plan: AuditPlan
    images: int
    storage: AuditStorage
    blobs: BlobReader


@final
@dataclass(frozen=True)
class ComputedShard:
    """What computing a shard has given.

    Attributes:
        result: Of the images from `start` of the shard to `stop`.
        stop: One past the last image that was computed, in the counting of the shard; less than the shard's own when
            `enough` ended it early.
        cold: Whether the model was calibrated for it.
    """

    result: ShardResult
    stop: int
    cold: bool


@final
@dataclass(frozen=True)
class AssemblyFacts:
    """What the report says about how its audit went.

    Attributes:
        attempts: How often a shard was started, including starts whose result was lost.
        started_at: When the first shard began, ISO 8601.
        finished_at: When the last shard ended, ISO 8601.
        estimated_seconds: Expected seconds of workers, if there was an estimate.
        baseline: The earlier report that conditions on changes compare with.
    """

    attempts: int
    started_at: str
    finished_at: str
    estimated_seconds: float | None
    baseline: AuditReport | None


Cause = Literal["killed", "memory", "time_limit"]
"""How a process that computed ended: by a signal or an exit of its own, because it is known to have needed too much
memory, or because it took too long."""


class ComputerDied(Exception):
    """The process that computed is gone, and took the shard with it.

    Attributes:
        cause: How it ended.
        loading: Whether it died before the first image, so that the model is to blame and no image.
    """

    def __init__(self, message: str, *, cause: Cause, loading: bool) -> None:
        super().__init__(message)
        self.cause = cause
        self.loading = loading


class Computer(Protocol):
    """Computes one thing at a time.

    Every method may raise InputError, where the request, the model or an image cannot be used; AuditCancelled, where
    `progress` has raised it; and ComputerDied, after which the next call starts anew.
    """

    def run_shard(
        self,
        audit: AuditTask,
        part: ShardRange,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
        left_out: Mapping[int, EndOfProcess] | None = None,
    ) -> ComputedShard:
        """Compute a shard, or its first images.

        Args:
            audit: The audit.
            part: Which wave, model and images.
            progress: Told the finished share of the shard, in [0, 1]; called at least every few seconds while passes go
                on. Raises AuditCancelled once the shard is no longer wanted.
            enough: Asked between groups of images. Once it says so, the images that are done are the result.
            left_out: Image of the batch that ends every process that computes it -> how. Such images are listed as
                excluded, and never decoded.
        """

    def stop_at(self, audit: AuditTask) -> int | None:
        """Number of images in the random order after which the audit may end; None while it must go on."""

    def assemble(self, audit: AuditTask, facts: AssemblyFacts) -> AuditReport:
        """Make the report from the results of all shards."""

    def train(
        self,
        training: TrainingTask,
        start: int,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
    ) -> TrainedSteps:
        """Train, from the newest checkpoint on.

        Args:
            training: The training.
            start: Steps that are done: those of the newest checkpoint; without one 0.
            progress: Told the finished share of the steps from `start` on, in [0, 1]. Raises AuditCancelled once they
                are no longer wanted.
            enough: Asked after steps. Once it says so, the steps that are done are the result.
        """

    def finish(self, training: TrainingTask, *, attempts: int) -> FinishedTraining:
        """Make weights and report of a training from its last checkpoint.

        Args:
            training: The training.
            attempts: How often computing was started.
        """

    def run_stage(
        self,
        experiment: ExperimentTask,
        stage: Stage,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
    ) -> bool:
        """Do a stage of an experiment, from what is kept on.

        Args:
            experiment: The experiment.
            stage: Of it; all stages of earlier waves are done.
            progress: Told the finished share of the stage, in [0, 1]. Raises AuditCancelled once it is no longer
                wanted.
            enough: Asked now and then. Once it says so, what is done is kept.

        Returns:
            Whether the stage is done; else the next call goes on.
        """

    def inspect(
        self, request: InspectionRequest, reference: ModelReference, *, purpose: str, tenant: str, blobs: BlobReader
    ) -> Inspection:
        """Load a model and say what runs on it.

        Args:
            request: Of the client.
            reference: The model that it names, resolved.
            purpose: What the model is used for: the digest of the inspection.
            tenant: Whose models it may share.
            blobs: Reads uploaded weights of the tenant.
        """

    def close(self) -> None:
        """End at once what is being computed, and give back memory and processes; no further order is taken."""
