"""The process that computes: it has torch and runs code of models, and holds no credentials.

`python -P -m auditcore_service.worker.compute_child PARENT_PID DESCRIPTOR`: the descriptor is one end of a channel
to the worker that has started it, and everything it is to know comes through this channel.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, final

from auditcore.contracts.experiments.request import EXPERIMENT_REQUEST
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.training.request import TrainingRequest
from auditcore.errors import AuditCancelled, InputError
from auditcore.sources.proxies import fetch_through
from auditcore_service.tethered import tie
from auditcore_service.worker.channel import Channel, ChannelClosed, Frame
from auditcore_service.worker.compute_messages import (
    BEGIN,
    MOST_TEXT,
    ORDER,
    Assemble,
    AuditHead,
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
    Ready,
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
    Unready,
)
from auditcore_service.worker.compute_requests import (
    RemoteFiles,
    RemoteImages,
    RemoteKept,
    RemoteStorage,
    Requests,
    checkpoint,
    enough,
)
from auditcore_service.worker.compute_settings import ComputeSettings
from auditcore_service.worker.computer import AssemblyFacts, AuditTask
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.sandbox.enforcement import enforce
from auditcore_service.worker.training_task import TrainingTask

if TYPE_CHECKING:
    from auditcore_service.worker.in_process_computer import InProcessComputer


@final
class Child:
    """Carries out the orders of its worker, one after the other."""

    def __init__(self, channel: Channel, computer: InProcessComputer) -> None:
        self._channel = channel
        self._requests = Requests(channel)
        self._files = RemoteFiles(self._requests)
        self._computer = computer
        self._audit: AuditTask | None = None

    def work(self) -> None:
        """Carry out orders until the worker closes the channel."""
        with fetch_through(self._files):
            while True:
                frame = self._channel.receive()
                assert frame is not None  # noqa: S101 - without a time limit there is a frame, or an exception
                order = ORDER.validate_json(frame.message)
                # a late word about the order before this one
                if isinstance(order, Cancel):
                    continue
                outcome, *beside = self._outcome(order, frame)
                self._channel.send(outcome, *beside)

    def _outcome(self, order: Order, frame: Frame) -> tuple[Outcome, *tuple[bytes, ...]]:
        self._requests.begin()
        try:
            return self._carry_out(order, frame)
        except AuditCancelled:
            return (Cancelled(),)
        except InputError as error:
            return (Failed(fault=Fault.of(error)),)
        except ChannelClosed:
            raise
        # code of models may raise anything, and a program that wants to end ends only its order
        except BaseException as error:  # noqa: BLE001 - as above
            said = f"{type(error).__name__}: {error}"[:MOST_TEXT]
            return (Broke(error=said, trace="".join(traceback.format_exception(error))[-MOST_TEXT:]),)

    def _carry_out(self, order: Order, frame: Frame) -> tuple[Outcome, *tuple[bytes, ...]]:  # noqa: PLR0911 - one for each order
        match order:
            case RunShard():
                computed = self._computer.run_shard(
                    self._task(order.audit, frame),
                    order.part,
                    progress=self._requests.tell_progress,
                    enough=lambda: enough(self._requests),
                    left_out=order.left_out,
                    images_begin=self._requests.images_begin,
                )
                done = ShardComputed(stop=computed.stop, cold=computed.cold)
                return done, computed.result.model_dump_json().encode()
            case StopAt(audit=audit):
                return (StopDecided(images=self._computer.stop_at(self._task(audit, frame))),)
            case Assemble():
                facts = AssemblyFacts(
                    attempts=order.attempts,
                    started_at=order.started_at,
                    finished_at=order.finished_at,
                    estimated_seconds=order.estimated_seconds,
                    baseline=None if len(frame.beside) < 3 else AuditReport.model_validate_json(frame.beside[2]),  # noqa: PLR2004 - the third part
                )
                report = self._computer.assemble(self._task(order.audit, frame), facts)
                return ReportMade(), report.model_dump_json().encode()
            case Train(training=head, start=start):
                trained = self._computer.train(
                    self._training_task(head, frame),
                    start,
                    progress=self._requests.tell_progress,
                    enough=lambda: enough(self._requests),
                    steps_begin=self._requests.images_begin,
                )
                told = StepsTrained(
                    stop=trained.stop,
                    ended=trained.ended,
                    passes=trained.passes,
                    seconds=trained.seconds,
                    device=trained.device,
                )
                return told, trained.checkpoint
            case Finish(training=head, attempts=attempts):
                finished = self._computer.finish(
                    self._training_task(head, frame), attempts=attempts, progress=self._requests.tell_progress
                )
                return Finished(), finished.report.model_dump_json().encode(), finished.weights
            case RunStage(experiment=head, stage=stage):
                ended = self._computer.run_stage(
                    self._experiment_task(head, frame),
                    stage,
                    progress=self._requests.tell_progress,
                    enough=lambda: enough(self._requests),
                    stage_begins=self._requests.images_begin,
                )
                return (StageDone(ended=ended),)
            case Inspect():
                found = self._computer.inspect(
                    InspectionRequest.model_validate_json(frame.beside[0]),
                    order.reference,
                    purpose=order.purpose,
                    tenant=order.tenant,
                    blobs=self._blob,
                )
                return Inspected(), found.model_dump_json().encode()
            case Cancel():
                raise AuditCancelled

    def _task(self, head: AuditHead, frame: Frame) -> AuditTask:
        """The audit of an order; kept while the orders that follow are about it."""
        if self._audit is None or self._audit.id != head.id:
            self._audit = AuditTask(
                id=head.id,
                tenant=head.tenant,
                request=AuditRequest.model_validate_json(frame.beside[0]),
                plan=AuditPlan.model_validate_json(frame.beside[1]),
                images=head.images,
                storage=RemoteStorage(self._requests),
                blobs=self._blob,
            )
        return self._audit

    def _training_task(self, head: TrainingHead, frame: Frame) -> TrainingTask:
        return TrainingTask(
            id=head.id,
            tenant=head.tenant,
            request=TrainingRequest.model_validate_json(frame.beside[0]),
            training_images=head.training_images,
            validation_images=head.validation_images,
            storage=RemoteImages(self._requests),
            checkpoint=lambda: checkpoint(self._requests),
            blobs=self._blob,
        )

    def _experiment_task(self, head: ExperimentHead, frame: Frame) -> ExperimentTask:
        return ExperimentTask(
            id=head.id,
            tenant=head.tenant,
            request=EXPERIMENT_REQUEST.validate_json(frame.beside[0]),
            training_images=head.training_images,
            validation_images=head.validation_images,
            test_images=head.test_images,
            failed=None if len(frame.beside) < 2 else AuditReport.model_validate_json(frame.beside[1]),  # noqa: PLR2004 - the second part
            storage=RemoteImages(self._requests),
            kept=RemoteKept(self._requests),
            blobs=self._blob,
        )

    def _blob(self, digest: str) -> bytes:
        """Uploaded bytes, for whatever reads them without a file."""
        limit = 2**62
        return self._files.open(f"blob:{digest}", field="model", limit_bytes=limit, sha256=digest).read_bytes()


def _prepared(settings: ComputeSettings) -> InProcessComputer:
    """Import torch, and settle memory and threads."""
    import torch  # noqa: PLC0415 - after everything that has to come before threads are started

    from auditcore.devices.allocator import keep_freed_memory  # noqa: PLC0415 - as above
    from auditcore.devices.host_memory import limit_memory  # noqa: PLC0415 - as above
    from auditcore_service.worker.in_process_computer import InProcessComputer, device_of  # noqa: PLC0415 - as above

    keep_freed_memory()
    # drivers of accelerators reserve far more addresses than memory
    if device_of(settings) == "cpu":
        limit_memory(settings.memory_bytes)
    torch.set_num_threads(settings.threads)
    return InProcessComputer(settings)


def main(arguments: list[str]) -> None:
    """Compute until the worker ends or closes the channel."""
    parent, descriptor = map(int, arguments)
    tie(parent, signal.SIGKILL)
    end = socket.socket(fileno=descriptor)
    # a program that a model starts must not be able to answer in its place
    end.set_inheritable(False)
    # what models print belongs to the log, not to the output of the worker
    os.dup2(2, 1)
    channel = Channel(end)
    frame = channel.receive()
    assert frame is not None  # noqa: S101 - without a time limit there is a frame, or an exception
    begin = BEGIN.validate_json(frame.message)
    try:
        # before torch is imported, which starts threads
        sandbox = () if begin.sandbox is None else enforce(begin.sandbox)
        computer = _prepared(begin.settings)
    except Exception as error:  # noqa: BLE001 - the worker says it, whatever it is
        channel.send(Unready(reason="".join(traceback.format_exception(error))[-MOST_TEXT:]))
        return
    channel.send(Ready(device=computer.device, sandbox=sandbox))
    try:
        Child(channel, computer).work()
    except ChannelClosed:
        # threads of models may go on for ever
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
