"""The side of the worker: what a compute process may ask for while it carries out one order, and the answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import final
from urllib.parse import urlsplit

from auditcore.contracts.access import AccessRules
from auditcore.contracts.shards import ShardResult
from auditcore.orchestration.storage import AuditStorage
from auditcore.sources.fetching import BlobReader, open_resource, pin_resource
from auditcore.sources.registries.copied_models import copy_registry_model
from auditcore_service.worker.channel import ChannelBroken, Frame
from auditcore_service.worker.compute_folders import ComputeFolder
from auditcore_service.worker.compute_messages import (
    IMAGE_HEADS,
    OBSERVATIONS,
    AskCheckpoint,
    AskEnough,
    AskFile,
    AskImages,
    AskKept,
    AskKeptUri,
    AskMaps,
    AskObservations,
    AskPin,
    AskRegistry,
    ForgetKept,
    Given,
    ImageHead,
    KeepFile,
    KeepPicture,
    NextResult,
    ObservationRecord,
    OpenResults,
    Question,
)
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.training_task import TrainingTask

KEPT_MODELS = 2
"""Folders of models of registries that stay; weights are read into memory at once."""

PICTURE_BYTES = 64 * 2**20
"""Most bytes of a picture of a heat map."""


@final
class Answers:
    """Answers questions for one order. Everything goes through the storage and the blobs of the audit's tenant.

    Attributes:
        pictures: Digests of the pictures that were kept for the order.
    """

    def __init__(
        self,
        *,
        access: AccessRules,
        folder: ComputeFolder,
        blobs: BlobReader,
        storage: AuditStorage | None = None,
        training: TrainingTask | None = None,
        experiment: ExperimentTask | None = None,
        progress: Callable[[float], None] = lambda _: None,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Remember what the order is about.

        Args:
            access: What the operator allows; the compute process is not trusted to keep to it.
            folder: Of the compute process; files are put there.
            blobs: Reads uploaded bytes of the tenant.
            storage: Of the audit; None for an order without one.
            training: The training; None for an order without one.
            experiment: The experiment; None for an order without one.
            progress: Called before slow reads; may raise AuditCancelled.
            enough: Whether a shard may end early.
        """
        self.pictures: set[str] = set()
        self._access = access
        self._folder = folder
        self._blobs = blobs
        self._storage = storage
        self._training = training
        self._experiment = experiment
        self._progress = progress
        self._enough = enough
        self._results: Iterator[ShardResult] = iter(())

    def answer(self, question: Question, frame: Frame) -> tuple[Given, *tuple[bytes, ...]]:  # noqa: C901, PLR0911 - one for each question
        """The answer, and what stands beside it.

        Raises:
            InputError: What was asked for cannot be used.
            AuditCancelled: `progress` has raised it.
            ChannelBroken: The question makes no sense for the order.
        """
        match question:
            case AskEnough():
                return (Given(yes=self._enough()),)
            case AskFile() | AskPin() | AskRegistry():
                return (Given(text=self._fetched(question)),)
            case AskImages(indices=indices):
                return Given(), *self._images(indices)
            case AskMaps(digest=digest):
                return Given(), self._audit().read_maps(digest)
            case KeepPicture():
                if len(frame.beside) != 1 or len(frame.beside[0]) > PICTURE_BYTES:
                    msg = "there is no picture, or it is too large"
                    raise ChannelBroken(msg)
                digest = self._audit().keep_picture(frame.beside[0])
                self.pictures.add(digest)
                return (Given(text=digest),)
            case AskCheckpoint() if self._training is not None:
                self._progress(0.0)
                return Given(), self._training.checkpoint()
            case AskKept() | AskKeptUri() | KeepFile() | ForgetKept():
                return self._kept(question, frame)
            case OpenResults(wave=wave, model=model):
                self._results = iter(self._audit().results(wave, model=model))
                return (Given(),)
            case NextResult():
                result = next(self._results, None)
                return (Given(),) if result is None else (Given(), result.model_dump_json().encode())
            case AskObservations(rows=rows):
                seen = tuple(map(ObservationRecord.of, self._audit().observations(frozenset(rows))))
                return Given(), OBSERVATIONS.dump_json(seen)
            case _:
                msg = f"{question.kind} is no question"
                raise ChannelBroken(msg)

    def _audit(self) -> AuditStorage:
        if self._storage is None:
            msg = "this order has no audit"
            raise ChannelBroken(msg)
        return self._storage

    def _kept(
        self, question: AskKept | AskKeptUri | KeepFile | ForgetKept, frame: Frame
    ) -> tuple[Given, *tuple[bytes, ...]]:
        if self._experiment is None:
            msg = "this order has no experiment"
            raise ChannelBroken(msg)
        self._progress(0.0)
        kept = self._experiment.kept
        match question:
            case AskKept(name=name):
                data = kept.read(name)
                return (Given(),) if data is None else (Given(), data)
            case AskKeptUri(name=name):
                with suppress(KeyError):
                    return (Given(text=kept.uri(name)),)
            case KeepFile(name=name):
                if len(frame.beside) != 1:
                    msg = "there is no file to keep"
                    raise ChannelBroken(msg)
                kept.keep(name, frame.beside[0])
            case ForgetKept(name=name):
                kept.forget(name)
        return (Given(),)

    def _images(self, indices: Sequence[int]) -> tuple[bytes, ...]:
        """Heads of images, and their files."""
        job = self._training or self._experiment
        storage = self._audit() if job is None else job.storage
        images = storage.read_images(indices, progress=self._progress)
        heads = tuple(
            ImageHead(index=one.index, name=one.name, label=one.label, boxes=one.boxes, masks=one.masks)
            for one in images
        )
        return IMAGE_HEADS.dump_json(heads), *(one.data for one in images)

    def _fetched(self, question: AskFile | AskPin | AskRegistry) -> str | None:
        """A path in the folder of the compute process, or a digest."""
        self._progress(0.0)
        if isinstance(question, AskRegistry):
            path = copy_registry_model(question.reference, self._access, self._folder.models)
            self._forget_models()
            return str(path)
        if urlsplit(question.uri).scheme in {"file", "package"}:
            msg = "files of this machine are read by the compute process itself"
            raise ChannelBroken(msg)
        limits = self._access.limits
        limit_bytes = min(question.limit_bytes, max(limits.weights_bytes, limits.batch_bytes))
        if isinstance(question, AskPin):
            return pin_resource(question.uri, access=self._access, field=question.field, limit_bytes=limit_bytes)
        return str(
            open_resource(
                question.uri,
                access=self._access,
                field=question.field,
                limit_bytes=limit_bytes,
                sha256=question.sha256,
                blobs=self._blobs,
                folder=self._folder.files,
            )
        )

    def _forget_models(self) -> None:
        models = sorted(self._folder.models.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for old in models[:-KEPT_MODELS]:
            shutil.rmtree(old, ignore_errors=True)
