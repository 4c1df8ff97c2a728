"""A handler for TorchServe 0.12: class scores of tensors or photos, and explanations by any explainer of this project.

TorchServe calls `handle` with a list of requests, several at once where it batches. Every request is answered for
itself: what is wrong with one is no trouble of the others.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, final, get_args

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.archives import DESCRIPTION, WEIGHTS, ArchiveDescription, filled
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.explainers import Explainer, Precomputed
from auditcore.contracts.map_files import MAPS, TARGETS
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.errors import AuditcoreError
from auditcore.explainers.registry import EXPLAINERS as METHODS
from auditcore.explainers.registry import applicability, explain
from auditcore.images.decode import decode_image
from auditcore.images.preprocess import to_pixels
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.random_numbers.streams import Streams
from auditcore.sources.servers.torchserve.messages import (
    DESCRIBE,
    EXPLAINER,
    HEADER,
    INPUTS,
    LOGITS,
    TENSORS,
    ServedDescription,
)
from auditcore.tensor_files import Layout, TensorFileInvalid, read_layout, write_tensors

_EXPLAINER: TypeAdapter[Explainer] = TypeAdapter(Explainer)

Answer = bytes | str


class ServeContext(Protocol):
    """What is used of TorchServe's context."""

    manifest: Mapping[str, Any]
    system_properties: Mapping[str, Any]

    def get_request_header(self, idx: int, key: str) -> str | None:
        """A header of one request of the list."""

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the type of one answer."""

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of one answer."""


class BadRequest(Exception):
    """A request that cannot be answered; the message goes to whoever sent it."""


@final
@dataclass(frozen=True)
class _Asked:
    """One request with tensors.

    Attributes:
        position: In TorchServe's list.
        inputs: (N,3,S,S) normalized images, or those of a photo.
        layout: What its body holds; None for a photo.
        body: The body.
    """

    position: int
    inputs: Tensor
    layout: Layout | None
    body: bytes


@final
class AuditcoreHandler:
    """One model of one worker of TorchServe."""

    def __init__(self, folder: Path, *, name: str, served_version: str, device: str) -> None:
        """Load what `auditcore mar` has put into an archive.

        Args:
            folder: Where TorchServe has unpacked it.
            name: Of the model.
            served_version: Of the model.
            device: Where it runs.

        Raises:
            AuditcoreError: The archive is incomplete or damaged.
        """
        described = ArchiveDescription.model_validate_json((folder / DESCRIPTION).read_bytes())
        reference = filled(
            described.architecture,
            Weights(uri=(folder / WEIGHTS).as_uri()),
            scores=described.scores,
            preprocessing=described.preprocessing,
        )
        # who starts a server with this archive has chosen its code
        factories = (reference.target,) if isinstance(reference, FactoryModel) else ()
        access = AccessRules(factories=factories, file_roots=(folder,))
        self._classifier: Classifier = load_classifier(reference, access=access, device=device)
        self._description = ServedDescription(
            auditcore=version("auditcore"),
            name=name,
            version=served_version,
            weights=self._classifier.digest,
            classes=self._classifier.classes,
            scores=self._classifier.scores,
            preprocessing=self._classifier.preprocessing,
            explainers=tuple(
                kind.model_fields["kind"].default
                for kind in get_args(get_args(Explainer)[0])
                if kind is not Precomputed and self._incompatibility(kind()) is None
            ),
        )

    def answer(self, requests: Sequence[Mapping[str, Any]], context: ServeContext) -> list[Answer]:
        """One answer a request, in order."""
        answers: list[Answer] = [b""] * len(requests)
        asked: list[_Asked] = []
        for position, request in enumerate(requests):
            try:
                if _header(context, position, HEADER) == DESCRIBE:
                    answers[position] = self._description.model_dump_json()
                    context.set_response_content_type(position, "application/json")
                else:
                    asked.append(self._read(position, request))
            except BadRequest as error:
                answers[position] = _refused(context, position, error)
        explained = [one for one in asked if _header(context, one.position, "explain") == "True"]
        predicted = [one for one in asked if one not in explained]
        for one, logits in zip(predicted, self._predict(predicted), strict=True):
            answers[one.position] = self._told(one, logits, context)
        for one in explained:
            try:
                answers[one.position] = self._explain(one)
                context.set_response_content_type(one.position, TENSORS)
            except BadRequest as error:
                answers[one.position] = _refused(context, one.position, error)
        return answers

    def _read(self, position: int, request: Mapping[str, Any]) -> _Asked:
        body = request.get("body", request.get("data"))
        if isinstance(body, bytearray | memoryview):
            body = bytes(body)
        if not isinstance(body, bytes) or not body:
            msg = "send tensors in the safetensors format, or one photo as PNG or JPEG, as the body"
            raise BadRequest(msg)
        try:
            layout = read_layout(body)
        except TensorFileInvalid:
            return _Asked(position, self._photo(body), None, body)
        side = self._classifier.size
        place = layout.tensors.get(INPUTS)
        if place is None or place.dtype != "F32" or len(place.shape) != 4 or place.shape[1:] != (3, side, side):  # noqa: PLR2004 - axes
            found = "nothing" if place is None else f"{place.shape} {place.dtype}"
            msg = f"`{INPUTS}` must be (N,3,{side},{side}) float32, normalized; got {found}"
            raise BadRequest(msg)
        return _Asked(position, _tensor(body, layout, INPUTS, np.float32), layout, body)

    def _photo(self, body: bytes) -> Tensor:
        limits = Limits()
        try:
            image = decode_image(body, limits=limits, field="body")
            pixels = to_pixels(image, self._classifier.preprocessing, limits=limits, field="body")
        except AuditcoreError as error:
            msg = f"the body is neither tensors in the safetensors format nor a photo: {error.message}"
            raise BadRequest(msg) from error
        return self._classifier.normalize(pixels[None].to(self._classifier.device)).cpu()

    def _predict(self, asked: Sequence[_Asked]) -> list[Tensor]:
        """Logits of every request, all images in one pass."""
        if not asked:
            return []
        inputs = torch.cat([one.inputs for one in asked]).to(self._classifier.device)
        with torch.inference_mode():
            logits = self._classifier.folded(inputs.contiguous(memory_format=torch.channels_last)).cpu()
        return list(logits.split([len(one.inputs) for one in asked]))

    def _told(self, one: _Asked, logits: Tensor, context: ServeContext) -> Answer:
        if one.layout is not None:
            context.set_response_content_type(one.position, TENSORS)
            return write_tensors({LOGITS: ("F32", tuple(logits.shape), logits.contiguous().numpy().tobytes())})
        context.set_response_content_type(one.position, "application/json")
        probabilities = self._classifier.probabilities(logits)
        return json.dumps({"logits": logits[0].tolist(), "probabilities": probabilities[0].tolist()})

    def _explain(self, one: _Asked) -> bytes:
        text = "{}" if one.layout is None else one.layout.metadata.get(EXPLAINER, "{}")
        try:
            explainer = _EXPLAINER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            msg = f'the metadata `{EXPLAINER}` must name an explainer, such as {{"kind": "gradient"}}: {first}'
            raise BadRequest(msg) from error
        reason = self._incompatibility(explainer)
        if reason is not None:
            msg = f"{explainer.label} cannot explain here: {reason}"
            raise BadRequest(msg)
        device = self._classifier.device
        inputs = one.inputs.to(device)
        pixels = (inputs * self._classifier.std + self._classifier.mean).contiguous(memory_format=torch.channels_last)
        targets = self._targets(one, pixels)
        streams = Streams(0, tuple(sha256(image.numpy().tobytes()) for image in one.inputs.contiguous()))
        try:
            found = explain(self._classifier, explainer, pixels, targets, streams).maps.contiguous().cpu()
        except AuditcoreError as error:
            raise BadRequest(error.message) from error
        return write_tensors(
            {
                MAPS: ("F32", tuple(found.shape), found.numpy().tobytes()),
                TARGETS: ("I64", tuple(targets.shape), targets.cpu().numpy().tobytes()),
            }
        )

    def _incompatibility(self, explainer: Explainer) -> str | None:
        """Why an explainer cannot explain single images of this model, or None."""
        if isinstance(explainer, Precomputed):
            return "maps are what is asked for"
        if METHODS[type(explainer)].measure_shared is not None:
            return "it needs statistics over the images of a whole audit"
        return applicability(self._classifier, explainer)

    def _targets(self, one: _Asked, pixels: Tensor) -> Tensor:
        """The classes asked for, or those that are predicted."""
        if one.layout is None or TARGETS not in one.layout.tensors:
            return self._classifier.logits(pixels).argmax(1)
        place = one.layout.tensors[TARGETS]
        if place.dtype != "I64" or place.shape != (len(pixels),):
            msg = f"`{TARGETS}` must be ({len(pixels)},) int64, one class an image; got {place.shape} {place.dtype}"
            raise BadRequest(msg)
        targets = _tensor(one.body, one.layout, TARGETS, np.int64)
        if not (int(targets.min()) >= 0 and int(targets.max()) < self._classifier.classes):
            msg = f"`{TARGETS}` must be classes from 0 to {self._classifier.classes - 1}"
            raise BadRequest(msg)
        return targets.to(pixels.device)


def _tensor(body: bytes, layout: Layout, name: str, dtype: type[np.generic]) -> Tensor:
    place = layout.tensors[name]
    values = np.frombuffer(body[place.start : place.stop], dtype=dtype).reshape(place.shape)
    return torch.from_numpy(values.copy())


def _header(context: ServeContext, position: int, name: str) -> str | None:
    """A header, as the client wrote its name or in lower case."""
    return context.get_request_header(position, name) or context.get_request_header(position, name.lower())


def _refused(context: ServeContext, position: int, error: BadRequest) -> str:
    context.set_response_status(code=400, phrase="Bad Request", idx=position)
    context.set_response_content_type(position, "application/json")
    return json.dumps({"code": 400, "type": "BadRequestException", "message": str(error)})


_HANDLERS: dict[str, AuditcoreHandler] = {}
_LOADING = threading.Lock()


def handle(data: Sequence[Mapping[str, Any]] | None, context: ServeContext) -> list[Answer] | None:
    """TorchServe's entry point: without data the model is loaded, with data it answers.

    Args:
        data: One mapping a request, with its body; None when the worker starts.
        context: TorchServe's.

    Returns:
        One answer a request; None when the worker starts.
    """
    folder = str(context.system_properties["model_dir"])
    with _LOADING:
        if folder not in _HANDLERS:
            gpu = context.system_properties.get("gpu_id")
            device = f"cuda:{gpu}" if torch.cuda.is_available() and gpu is not None else "cpu"
            model = context.manifest["model"]
            _HANDLERS[folder] = AuditcoreHandler(
                Path(folder), name=str(model["modelName"]), served_version=str(model["modelVersion"]), device=device
            )
    return None if data is None else _HANDLERS[folder].answer(data, context)
