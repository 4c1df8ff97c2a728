"""Computes in a process of its own, which has torch and runs code of models, and holds no credentials."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar, final

import structlog
from pydantic import ValidationError

from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.model_reference import ModelReference, ServedModel
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.report import AuditReport
from auditcore.contracts.shards import EndOfProcess, ShardResult
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.training.report import TrainingReport
from auditcore.devices.host_memory import memory_kills
from auditcore.errors import AuditCancelled, InputError
from auditcore.orchestration.sharding import ShardRange
from auditcore.sources.fetching import BlobReader
from auditcore_service.settings import COMPUTE_START_S, TASKS_PER_CHILD, Settings
from auditcore_service.worker.channel import ChannelBroken, ChannelClosed, Frame
from auditcore_service.worker.child_process import ChildProcess
from auditcore_service.worker.compute_answers import Answers
from auditcore_service.worker.compute_environment import compute_environment
from auditcore_service.worker.compute_folders import ComputeFolder
from auditcore_service.worker.compute_messages import (
    READY,
    SAID,
    Assemble,
    AuditHead,
    Begin,
    Broke,
    Cancel,
    Cancelled,
    ExperimentHead,
    Failed,
    Fault,
    Finish,
    Finished,
    Inspect,
    Inspected,
    Order,
    Outcome,
    Progress,
    Question,
    Refused,
    ReportMade,
    RunShard,
    RunStage,
    ShardComputed,
    StageDone,
    StepsTrained,
    StopAt,
    StopDecided,
    Train,
    TrainingHead,
    Unavailable,
    Unready,
)
from auditcore_service.worker.compute_settings import ComputeSettings
from auditcore_service.worker.computer import AssemblyFacts, AuditTask, ComputedShard, ComputerDied
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.sandbox.profile import Reach, sandbox_profile
from auditcore_service.worker.training_task import FinishedTraining, TrainedSteps, TrainingTask

log = structlog.get_logger(__name__)

Read = TypeVar("Read")

TICK_S = 0.5
"""How often the worker looks whether the order is still wanted and its process still computes."""

CANCEL_S = 20.0
"""How long a process may take to give up what is cancelled; a new one starts in less."""

STALLED_S = 300.0
"""A process that says nothing for so long, and whose threads compute nothing meanwhile, waits for what never comes."""

COMPUTES_S = 1.0
"""Seconds of processor time within `STALLED_S` that count as computing."""


class ComputationBroke(Exception):
    """The compute process has reported an error that is nobody's on purpose; it goes on."""


class ComputeProcessUnready(Exception):
    """A compute process cannot start here; the message says why."""


@final
class ComputeProcess:
    """Starts a process, gives it one order at a time, and starts another when it dies; a `Computer`."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet.

        Args:
            settings: Those of the worker; the process gets the part that computing needs.
        """
        self._settings = settings
        self._given = ComputeSettings.of(settings)
        self._lock, self._working = threading.Lock(), threading.Lock()
        self._process: ChildProcess | None = None
        self._reach: Reach = "nothing"
        self._ready = False
        self._closed = False
        self._orders = 0

    @property
    def pid(self) -> int | None:
        """Id of the process that runs now."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start the process, so that the first order need not wait until torch is imported."""
        self._started("nothing")

    def close(self) -> None:
        """End the process at once. An order in another thread ends with `ComputerDied`; no further one is taken."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is None:
            return
        process.kill()
        # the thread that waits for an order closes the channel itself
        if self._working.acquire(blocking=False):
            try:
                self._discard(process)
            finally:
                self._working.release()

    def run_shard(
        self,
        audit: AuditTask,
        part: ShardRange,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
        left_out: Mapping[int, EndOfProcess] | None = None,
    ) -> ComputedShard:
        """Compute a shard, or its first images."""
        order = RunShard(
            audit=_head(audit),
            wave=part.wave,
            model=part.model,
            start=part.start,
            stop=part.stop,
            left_out=dict(left_out or {}),
        )
        process = self._prepared(_reach_of(audit))
        answers = self._answers(process, audit, progress, enough)

        def read(outcome: Outcome, frame: Frame) -> ComputedShard:
            if not isinstance(outcome, ShardComputed):
                raise ChannelBroken(outcome.kind)
            result = ShardResult.model_validate_json(frame.beside[0])
            _check(result, outcome, part, audit, answers.pictures)
            return ComputedShard(result, stop=outcome.stop, cold=outcome.cold)

        return self._carry_out(process, order, _beside(audit), answers, read, progress)

    def stop_at(self, audit: AuditTask) -> int | None:
        """Number of images in the random order after which the audit may end; None while it must go on."""
        process = self._prepared(None)

        def read(outcome: Outcome, _: Frame) -> int | None:
            if not isinstance(outcome, StopDecided):
                raise ChannelBroken(outcome.kind)
            return outcome.images

        return self._carry_out(process, StopAt(audit=_head(audit)), _beside(audit), self._answers(process, audit), read)

    def assemble(self, audit: AuditTask, facts: AssemblyFacts) -> AuditReport:
        """Make the report from the results of all shards."""
        order = Assemble(
            audit=_head(audit),
            attempts=facts.attempts,
            started_at=facts.started_at,
            finished_at=facts.finished_at,
            estimated_seconds=facts.estimated_seconds,
        )
        baseline = () if facts.baseline is None else (facts.baseline.model_dump_json().encode(),)
        process = self._prepared(None)

        def read(outcome: Outcome, frame: Frame) -> AuditReport:
            if not isinstance(outcome, ReportMade):
                raise ChannelBroken(outcome.kind)
            report = AuditReport.model_validate_json(frame.beside[0])
            if report.audit_id != audit.id:
                msg = "the report is of another audit"
                raise ChannelBroken(msg)
            return report

        return self._carry_out(process, order, (*_beside(audit), *baseline), self._answers(process, audit), read)

    def train(
        self,
        training: TrainingTask,
        start: int,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
    ) -> TrainedSteps:
        """Train, from the newest checkpoint on."""
        process = self._prepared("nothing")
        answers = self._training_answers(process, training, progress, enough)

        def read(outcome: Outcome, frame: Frame) -> TrainedSteps:
            if not isinstance(outcome, StepsTrained):
                raise ChannelBroken(outcome.kind)
            if outcome.stop < start or (outcome.stop == start and not outcome.ended):
                msg = "the steps are not those that were asked for"
                raise ChannelBroken(msg)
            return TrainedSteps(
                frame.beside[0],
                stop=outcome.stop,
                ended=outcome.ended,
                passes=outcome.passes,
                seconds=outcome.seconds,
                device=outcome.device,
            )

        order = Train(training=_training_head(training), start=start)
        return self._carry_out(process, order, _training_beside(training), answers, read, progress)

    def finish(self, training: TrainingTask, *, attempts: int) -> FinishedTraining:
        """Make weights and report of a training from its last checkpoint."""
        process = self._prepared("nothing")
        answers = self._training_answers(process, training)

        def read(outcome: Outcome, frame: Frame) -> FinishedTraining:
            if not isinstance(outcome, Finished):
                raise ChannelBroken(outcome.kind)
            report, weights = TrainingReport.model_validate_json(frame.beside[0]), frame.beside[1]
            if (
                report.training_id != training.id
                or report.request != training.request
                or report.trained.weights != sha256(weights)
            ):
                msg = "the report is of another training or of other weights"
                raise ChannelBroken(msg)
            return FinishedTraining(report, weights)

        order = Finish(training=_training_head(training), attempts=attempts)
        return self._carry_out(process, order, _training_beside(training), answers, read)

    def run_stage(
        self,
        experiment: ExperimentTask,
        stage: Stage,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
    ) -> bool:
        """Do a stage of an experiment, from what is kept on."""
        process = self._prepared(_reach_of_experiment(experiment))
        answers = Answers(
            access=self._settings.access,
            folder=process.folder,
            blobs=experiment.blobs,
            experiment=experiment,
            progress=progress,
            enough=enough,
        )

        def read(outcome: Outcome, _: Frame) -> bool:
            if not isinstance(outcome, StageDone):
                raise ChannelBroken(outcome.kind)
            return outcome.ended

        order = RunStage(
            experiment=ExperimentHead(
                id=experiment.id,
                tenant=experiment.tenant,
                training_images=experiment.training_images,
                validation_images=experiment.validation_images,
                test_images=experiment.test_images,
            ),
            stage=stage,
        )
        failed = () if experiment.failed is None else (experiment.failed.model_dump_json().encode(),)
        beside = (experiment.request.model_dump_json().encode(), *failed)
        return self._carry_out(process, order, beside, answers, read, progress)

    def inspect(
        self, request: InspectionRequest, reference: ModelReference, *, purpose: str, tenant: str, blobs: BlobReader
    ) -> Inspection:
        """Load a model and say what runs on it."""
        served = isinstance(reference, ServedModel) or any(one.server is not None for one in request.explainers)
        process = self._prepared("servers" if served else "nothing")
        answers = Answers(access=self._settings.access, folder=process.folder, blobs=blobs)
        order = Inspect(reference=reference, purpose=purpose, tenant=tenant)

        def read(outcome: Outcome, frame: Frame) -> Inspection:
            if not isinstance(outcome, Inspected):
                raise ChannelBroken(outcome.kind)
            return Inspection.model_validate_json(frame.beside[0])

        return self._carry_out(process, order, (request.model_dump_json().encode(),), answers, read)

    def _answers(
        self,
        process: ChildProcess,
        audit: AuditTask,
        progress: Callable[[float], None] = lambda _: None,
        enough: Callable[[], bool] = lambda: False,
    ) -> Answers:
        return Answers(
            access=self._settings.access,
            folder=process.folder,
            blobs=audit.blobs,
            storage=audit.storage,
            progress=progress,
            enough=enough,
        )

    def _training_answers(
        self,
        process: ChildProcess,
        training: TrainingTask,
        progress: Callable[[float], None] = lambda _: None,
        enough: Callable[[], bool] = lambda: False,
    ) -> Answers:
        return Answers(
            access=self._settings.access,
            folder=process.folder,
            blobs=training.blobs,
            training=training,
            progress=progress,
            enough=enough,
        )

    def _prepared(self, reach: Reach | None) -> ChildProcess:
        """A process that can take an order now.

        Args:
            reach: What the order has to reach; None if that does not matter.
        """
        process = self._started(reach)
        if not self._ready:
            frame = None
            try:
                frame = process.channel.receive(COMPUTE_START_S)
                said = None if frame is None else READY.validate_json(frame.message)
            except (ChannelClosed, ChannelBroken, ValidationError):
                said = None
            if said is None or isinstance(said, Unready):
                code = process.exit_code()
                self._discard(process)
                self._refuse_closed()
                reason = f"it ended with {_ending(code)}" if said is None else said.reason
                msg = f"the process that computes cannot start: {reason}"
                raise ComputeProcessUnready(msg)
            log.info("compute_process_ready", pid=process.pid, device=said.device, sandbox=list(said.sandbox))
            self._ready = True
        return process

    def _started(self, reach: Reach | None) -> ChildProcess:
        with self._lock:
            self._refuse_closed()
            process = self._process
            fits = reach is None or reach == self._reach or self._settings.sandbox == "off"
            if process is not None and fits and not process.has_ended:
                return process
            if process is not None:
                process.kill()
            reach = reach or "nothing"
            folder = ComputeFolder()
            environment = compute_environment(os.environ, also=self._settings.compute_environment, folder=folder.own)
            self._process = process = ChildProcess(environment, folder)
            self._reach, self._ready, self._orders = reach, False, 0
        profile = sandbox_profile(self._settings, reach, folder) if self._settings.sandbox != "off" else None
        try:
            process.channel.send(Begin(settings=self._given, sandbox=profile))
        except ChannelClosed:
            log.warning("compute_process_ended_early")
        return process

    def _refuse_closed(self) -> None:
        if self._closed:
            msg = "the worker is about to end, and has ended the process that computes"
            raise ComputerDied(msg, cause="killed", loading=False)

    def _carry_out(
        self,
        process: ChildProcess,
        order: Order,
        beside: tuple[bytes, ...],
        answers: Answers,
        read: Callable[[Outcome, Frame], Read],
        progress: Callable[[float], None] = lambda _: None,
    ) -> Read:
        """Give an order and answer questions until it is carried out.

        Args:
            process: Takes the order.
            order: The order.
            beside: What stands beside it.
            answers: Answers questions.
            read: From the outcome to what was wanted; raises ChannelBroken or ValidationError for any other.
            progress: Told the finished share; may raise AuditCancelled.

        Raises:
            InputError: The request, the model or an image cannot be used.
            AuditCancelled: `progress` has raised it.
            ComputerDied: The process is gone.
            ComputationBroke: It has reported an error of another kind.
            Exception: What an answer has raised, such as for a database that is away.
        """
        dialogue = _Dialogue(process, answers, progress, self._settings.shard_limit_s, stalls=self._reach == "nothing")
        kills = memory_kills()
        try:
            with self._working:
                outcome, frame = dialogue.lead(order, beside)
            _raise_failure(outcome)
            found = _read(read, outcome, frame)
        except ChannelClosed as error:
            raise self._death(process, kills, loading=dialogue.loading) from error
        except ChannelBroken as error:
            self._discard(process)
            msg = f"the process that computes has sent what makes no sense ({error}), and was ended"
            raise ComputerDied(msg, cause="killed", loading=dialogue.loading) from error
        except BaseException:
            # without an outcome, a process goes on with what nobody waits for any more
            if dialogue.ended:
                self._finished(process)
            else:
                self._discard(process)
            raise
        self._finished(process)
        return found

    def _death(self, process: ChildProcess, kills: int | None, *, loading: bool) -> ComputerDied:
        """What is known of a process that has closed its channel."""
        code = process.exit_code()
        self._discard(process)
        when = "while it loaded the model" if loading else "while it computed images"
        if code == -signal.SIGKILL and kills is not None and (memory_kills() or 0) > kills:
            msg = f"the process that computes was killed {when}, because the container had no memory left"
            return ComputerDied(msg, cause="memory", loading=loading)
        msg = f"the process that computes ended with {_ending(code)} {when}"
        return ComputerDied(msg, cause="killed", loading=loading)

    def _finished(self, process: ChildProcess) -> None:
        """Count an order; after many, put a new process in the place of the old one."""
        self._orders += 1
        if self._orders >= TASKS_PER_CHILD:
            reach = self._reach
            self._discard(process)
            if not self._closed:
                self._started(reach)

    def _discard(self, process: ChildProcess) -> None:
        process.kill()
        process.channel.close()
        with self._lock:
            if self._process is process:
                self._process = None


@final
class _Dialogue:
    """One order and what is said until it is carried out.

    Attributes:
        loading: Whether no image has been begun yet.
        ended: Whether the process has told the outcome, so that it can take another order.
    """

    def __init__(
        self,
        process: ChildProcess,
        answers: Answers,
        progress: Callable[[float], None],
        limit_s: float,
        *,
        stalls: bool,
    ) -> None:
        self.loading = True
        self.ended = False
        self._process = process
        self._channel = process.channel
        self._answers = answers
        self._progress = progress
        self._limit_s = limit_s
        self._stalls = stalls
        self._share = 0.0
        self._heard = self._computed = 0.0
        self._cancelled_at: float | None = None
        self._failure: Exception | None = None

    def lead(self, order: Order, beside: tuple[bytes, ...]) -> tuple[Outcome, Frame]:
        """Give the order, and return how it ended."""
        self._channel.send(order, *beside)
        deadline = time.monotonic() + self._limit_s
        self._heard, self._computed = time.monotonic(), self._process.cpu_seconds()
        while True:
            frame = self._channel.receive(TICK_S)
            now = time.monotonic()
            if now > deadline:
                raise self._too_long(self._limit_s, idle=False)
            if self._cancelled_at is not None and now > self._cancelled_at + CANCEL_S:
                raise AuditCancelled
            if frame is None:
                self._refuse_stalled(now)
                self._report()
                continue
            self._heard, self._computed = now, self._process.cpu_seconds()
            said = _said(frame)
            if isinstance(said, Outcome):
                self.ended = True
                self._raise_own_failure()
                return said, frame
            if isinstance(said, Progress):
                self._share = max(self._share, said.share)
                self.loading = self.loading and not said.images_begun
                self._report()
            # a question that crossed the word that its order is void is answered by that word
            elif self._cancelled_at is None and self._failure is None:
                self._answer(said, frame)

    def _answer(self, question: Question, frame: Frame) -> None:
        try:
            answer, *beside = self._answers.answer(question, frame)
        except AuditCancelled:
            self._cancel()
        except InputError as error:
            self._channel.send(Refused(fault=Fault.of(error)))
        except ChannelBroken:
            raise
        # the order is void, and the reason is told once the process has given it up
        except Exception as error:  # noqa: BLE001 - whatever storage raises
            self._failure = error
            self._channel.send(Unavailable())
        else:
            self._channel.send(answer, *beside)

    def _raise_own_failure(self) -> None:
        """Raise what has made the order void on this side."""
        if self._failure is not None:
            raise self._failure
        if self._cancelled_at is not None:
            raise AuditCancelled

    def _refuse_stalled(self, now: float) -> None:
        if not self._stalls or now < self._heard + STALLED_S:
            return
        before, self._computed = self._computed, self._process.cpu_seconds()
        if self._computed < before + COMPUTES_S:
            raise self._too_long(STALLED_S, idle=True)
        self._heard = now

    def _report(self) -> None:
        if self._cancelled_at is None:
            try:
                self._progress(self._share)
            except AuditCancelled:
                self._cancel()

    def _cancel(self) -> None:
        self._cancelled_at = time.monotonic()
        self._channel.send(Cancel())

    def _too_long(self, seconds: float, *, idle: bool) -> ComputerDied:
        what = "did nothing for" if idle else "took more than"
        stage = "before it came to the first image" if self.loading else f"with {self._share:.0%} of the shard done"
        msg = f"the process that computes {what} {seconds:g} s and was ended, {stage}"
        return ComputerDied(msg, cause="time_limit", loading=self.loading)


def _said(frame: Frame) -> Question | Outcome:
    """What a frame says.

    Raises:
        ChannelBroken: It is no message of a compute process.
    """
    try:
        return SAID.validate_json(frame.message)
    except ValidationError as error:
        msg = "it is no message"
        raise ChannelBroken(msg) from error


def _read(read: Callable[[Outcome, Frame], Read], outcome: Outcome, frame: Frame) -> Read:
    """What an outcome brings.

    Raises:
        ChannelBroken: It is not what the order was for.
    """
    try:
        return read(outcome, frame)
    except (ValidationError, IndexError) as error:
        msg = "it is no result"
        raise ChannelBroken(msg) from error


def _raise_failure(outcome: Outcome) -> None:
    """Raise what a process has told in place of a result."""
    match outcome:
        case Failed(fault=fault):
            error = fault.as_error()
            if error is None:
                msg = f"{fault.code!r} is no code of an error"
                raise ChannelBroken(msg)
            raise error
        case Cancelled():
            raise AuditCancelled
        case Broke(error=said, trace=trace):
            log.error("computation_broke", error=said, trace=trace)
            raise ComputationBroke(said)


def _head(audit: AuditTask) -> AuditHead:
    return AuditHead(id=audit.id, tenant=audit.tenant, images=audit.images)


def _beside(audit: AuditTask) -> tuple[bytes, bytes]:
    return audit.request.model_dump_json().encode(), audit.plan.model_dump_json().encode()


def _training_head(training: TrainingTask) -> TrainingHead:
    return TrainingHead(
        id=training.id,
        tenant=training.tenant,
        training_images=training.training_images,
        validation_images=training.validation_images,
    )


def _training_beside(training: TrainingTask) -> tuple[bytes]:
    return (training.request.model_dump_json().encode(),)


def _reach_of(audit: AuditTask) -> Reach:
    """Whether an audit asks servers, of models or of explainers."""
    models = (reference for _, reference in audit.request.loaded_models)
    served = any(isinstance(one, ServedModel) for one in models)
    return "servers" if served or any(one.server is not None for one in audit.plan.explainers) else "nothing"


def _reach_of_experiment(experiment: ExperimentTask) -> Reach:
    """Whether the audits of an experiment ask servers of explainers."""
    match experiment.request:
        case StudyRequest(plan=plan):
            explainers = plan.audit.explainers
        case RemedyRequest():
            explainers = () if experiment.failed is None else experiment.failed.plan.explainers
        case _:  # measures that retrain refuse servers
            explainers = ()
    return "servers" if any(one.server is not None for one in explainers) else "nothing"


def _check(result: ShardResult, outcome: ShardComputed, part: ShardRange, audit: AuditTask, pictures: set[str]) -> None:
    """Refuse a result that is not of the shard that was asked for.

    Raises:
        ChannelBroken: It is of another wave, model or images, or lists pictures that were not made for it.
    """
    name, _ = audit.request.loaded_models[part.model]
    indices = [record.index for record in result.images]
    fits = (
        result.wave == part.wave
        and result.model_name == name
        and part.start < outcome.stop <= part.stop
        and len(set(indices)) == len(indices) == outcome.stop - part.start
        and all(0 <= index < audit.images for index in indices)
        and {picture.digest for picture in result.artifacts} <= pictures
    )
    if not fits:
        msg = "the result is not of the shard that was asked for"
        raise ChannelBroken(msg)


def _ending(code: int | None) -> str:
    if code is None:
        return "no exit code"
    return f"the signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
