"""The side of the compute process: what it needs of an audit, it asks its worker for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import final

from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.packaged_models import HuggingFaceModel, MlflowModel
from auditcore.contracts.policy import Row
from auditcore.contracts.shards import ShardResult, Wave
from auditcore.errors import AuditCancelled, LimitExceeded
from auditcore.images.encoded import EncodedImage
from auditcore.report.stopping import Observations
from auditcore_service.worker.channel import FRAME_BYTES, Channel, Frame
from auditcore_service.worker.compute_messages import (
    ANSWER,
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
    Cancel,
    ForgetKept,
    Given,
    KeepFile,
    KeepPicture,
    NextResult,
    OpenResults,
    Progress,
    Question,
    Refused,
    Unavailable,
)

KEPT_BYTES = FRAME_BYTES - 2**20
"""Most bytes of a kept file: it is one frame between worker and process. A ResNet-50 with momentum has 200 MB."""

PROGRESS_S = 0.1
"""Shortest time between two reports of progress; a message takes 50 µs."""


class WorkerUnavailable(Exception):
    """The worker could not give what was asked for, for a reason that it knows itself."""


@final
class Requests:
    """Asks the worker, one question at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.RLock()
        self._told = 0.0
        self._begun = False
        self._cancelled = False

    def begin(self) -> None:
        """A new order has come."""
        self._told, self._begun, self._cancelled = 0.0, False, False

    def ask(self, question: Question, *beside: bytes) -> tuple[Given, Frame]:
        """The answer to a question.

        Raises:
            InputError: What was asked for cannot be used.
            AuditCancelled: The order is no longer wanted.
            WorkerUnavailable: The worker has failed.
        """
        with self._lock:
            self._refuse_unwanted()
            self._channel.send(question, *beside)
            frame = self._channel.receive()
            assert frame is not None  # noqa: S101 - without a time limit there is a frame, or an exception
            return self._answer(frame), frame

    def tell_progress(self, share: float) -> None:
        """Say how much is done, if that was not said a moment ago.

        Raises:
            AuditCancelled: The order is no longer wanted.
        """
        now = time.monotonic()
        if now - self._told < PROGRESS_S:
            return
        self._told = now
        self._tell(share)

    def images_begin(self) -> None:
        """Say that from now on images are decoded and computed."""
        self._begun = True
        self._tell(0.0)

    def _tell(self, share: float) -> None:
        with self._lock:
            self._refuse_unwanted()
            self._channel.send(Progress(share=min(max(share, 0.0), 1.0), images_begun=self._begun))
            frame = self._channel.receive(0.0)
            if frame is not None:
                self._answer(frame)

    def _refuse_unwanted(self) -> None:
        """Cancel again where code of models has caught the first time."""
        if self._cancelled:
            raise AuditCancelled

    def _answer(self, frame: Frame) -> Given:
        match ANSWER.validate_json(frame.message):
            case Given() as given:
                return given
            case Refused(fault=fault):
                raise fault.as_error() or WorkerUnavailable(fault.code)
            case Unavailable():
                raise WorkerUnavailable
            case Cancel():
                self._cancelled = True
                raise AuditCancelled


@final
class RemoteStorage:
    """The storage of an audit that the worker keeps; an `AuditStorage`."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def read_images(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:  # noqa: ARG002 - the worker reports what it fetches
        """The images of these indices of the batch, in this order."""
        return _images(self._requests, indices)

    def read_maps(self, digest: str) -> bytes:
        """A file of uploaded maps."""
        _, frame = self._requests.ask(AskMaps(digest=digest))
        return frame.beside[0]

    def keep_picture(self, data: bytes) -> str:
        """Keep a PNG file and return its digest."""
        return str(self._requests.ask(KeepPicture(), data)[0].text)

    def results(self, wave: Wave, *, model: int | None = None) -> Iterator[ShardResult]:
        """Results of the finished shards of a wave in index order, one at a time."""
        self._requests.ask(OpenResults(wave=wave, model=model))
        while True:
            _, frame = self._requests.ask(NextResult())
            if not frame.beside:
                return
            yield ShardResult.model_validate_json(frame.beside[0])

    def observations(self, rows: Collection[Row]) -> Sequence[Observations]:
        """The values of some results in the finished shards of the compute wave."""
        _, frame = self._requests.ask(AskObservations(rows=tuple(rows)))
        return [one.as_observations() for one in OBSERVATIONS.validate_json(frame.beside[0])]


@final
class RemoteImages:
    """The images of a training or an experiment, which the worker keeps."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def read_images(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:  # noqa: ARG002 - the worker reports what it fetches
        """The images of these indices, in this order."""
        return _images(self._requests, indices)


@final
class RemoteKept:
    """The kept files of the experiment that the order is about, which the worker keeps; a `KeptFiles`."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""
        _, frame = self._requests.ask(AskKept(name=name))
        return frame.beside[0] if frame.beside else None

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file.

        Raises:
            LimitExceeded: It does not fit into one frame.
        """
        if len(data) > KEPT_BYTES:
            raise LimitExceeded(
                what=f"the kept file {name}", limit=KEPT_BYTES, actual=len(data), unit="bytes", field="plan"
            )
        self._requests.ask(KeepFile(name=name), data)

    def forget(self, name: str) -> None:
        """Remove a file; nothing happens if it is not there."""
        self._requests.ask(ForgetKept(name=name))

    def uri(self, name: str) -> str:
        """The file as a `blob:` URI.

        Raises:
            KeyError: It is not there.
        """
        found = self._requests.ask(AskKeptUri(name=name))[0].text
        if found is None:
            raise KeyError(name)
        return found


@final
class RemoteFiles:
    """Files that only the worker can fetch; a `ResourceProxy`."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def open(self, uri: str, *, field: str, limit_bytes: int, sha256: str | None) -> Path:
        """A file with the bytes behind a URI."""
        return self._path(AskFile(uri=uri, field=field, limit_bytes=limit_bytes, sha256=sha256))

    def pin(self, uri: str, *, field: str, limit_bytes: int) -> str | None:
        """The digest of what is behind a URI now."""
        return self._requests.ask(AskPin(uri=uri, field=field, limit_bytes=limit_bytes))[0].text

    def open_registry(self, reference: ModelReference) -> Path:
        """A folder with the files of a model of a registry."""
        assert isinstance(reference, HuggingFaceModel | MlflowModel)  # noqa: S101 - no other kind is in a registry
        return self._path(AskRegistry(reference=reference))

    def _path(self, question: AskFile | AskRegistry) -> Path:
        return Path(str(self._requests.ask(question)[0].text))


def enough(requests: Requests) -> bool:
    """Whether the images that are done are the result."""
    return requests.ask(AskEnough())[0].yes


def checkpoint(requests: Requests) -> bytes:
    """The newest checkpoint of the training that the order is about."""
    _, frame = requests.ask(AskCheckpoint())
    return frame.beside[0]


def _images(requests: Requests, indices: Sequence[int]) -> list[EncodedImage]:
    _, frame = requests.ask(AskImages(indices=tuple(indices)))
    heads, *files = frame.beside
    return [
        EncodedImage(head.index, head.name, data, head.label, head.boxes, head.masks)
        for head, data in zip(IMAGE_HEADS.validate_json(heads), files, strict=True)
    ]
