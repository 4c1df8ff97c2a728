"""A handler for TorchServe 0.12: class scores of tensors or photos, and explanations by any explainer of this project.

TorchServe calls `handle` with a list of requests, several at once if it batches. Every request is answered
independently: an invalid request does not affect the others.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.archives import DESCRIPTION, WEIGHTS, ArchiveDescription, filled
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.explainers import Explainer, default_explainers
from auditcore.contracts.map_files import MAPS, TARGETS
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.errors import AuditcoreError
from auditcore.explainers.registry import applicability, explain
from auditcore.images.preprocess import to_pixels
from auditcore.images.reading import read_image
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
    """The part of TorchServe's context that is used here."""

    manifest: Mapping[str, Any]
    system_properties: Mapping[str, Any]

    def get_request_header(self, idx: int, key: str) -> str | None:
        """Return a header of one request of the list."""

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the content type of one answer."""

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of one answer."""


class BadRequest(Exception):
    """A request that cannot be answered; the message is sent to the client."""


@final
@dataclass(frozen=True)
class _Request:
    """One request with tensors.

    Attributes:
        position: Position in TorchServe's list.
        inputs: (N,3,S,S) normalized images; (1,3,S,S) for a photo.
        layout: Contents of the body; None for a photo.
        body: The body.
    """

    position: int
    inputs: Tensor
    layout: Layout | None
    body: bytes


@final
class AuditcoreHandler:
    """One model in one TorchServe worker."""

    def __init__(self, folder: Path, *, name: str, served_version: str, device: str) -> None:
        """Load an archive that `auditcore mar` has written.

        Args:
            folder: Folder where TorchServe has unpacked the archive.
            name: Name of the model.
            served_version: Version of the model.
            device: Device that the model runs on.

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
        # the operator who serves this archive has approved its code
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
                explainer.kind for explainer in default_explainers() if self._incompatibility(explainer) is None
            ),
        )

    def answer(self, requests: Sequence[Mapping[str, Any]], context: ServeContext) -> list[Answer]:
        """Return one answer per request, in order."""
        answers: list[Answer] = [b""] * len(requests)
        read: list[_Request] = []
        for position, request in enumerate(requests):
            try:
                if _header(context, position, HEADER) == DESCRIBE:
                    answers[position] = self._description.model_dump_json()
                    context.set_response_content_type(position, "application/json")
                else:
                    read.append(self._read(position, request))
            except BadRequest as error:
                answers[position] = _refused(context, position, error)
        explained = [one for one in read if _header(context, one.position, "explain") == "True"]
        predicted = [one for one in read if one not in explained]
        for one, logits in zip(predicted, self._predict(predicted), strict=True):
            answers[one.position] = self._encoded(one, logits, context)
        for one in explained:
            try:
                answers[one.position] = self._explain(one)
                context.set_response_content_type(one.position, TENSORS)
            except BadRequest as error:
                answers[one.position] = _refused(context, one.position, error)
        return answers

    def _read(self, position: int, request: Mapping[str, Any]) -> _Request:
        body = request.get("body", request.get("data"))
        if isinstance(body, bytearray | memoryview):
            body = bytes(body)
        if not isinstance(body, bytes) or not body:
            msg = "send tensors in the safetensors format, or one photo as PNG or JPEG, as the body"
            raise BadRequest(msg)
        try:
            layout = read_layout(body)
        except TensorFileInvalid:
            return _Request(position, self._photo(body), None, body)
        shape = self._classifier.shape
        place = layout.tensors.get(INPUTS)
        if place is None or place.dtype != "F32" or len(place.shape) != 4 or place.shape[1:] != shape:  # noqa: PLR2004 - axes
            found = "nothing" if place is None else f"{place.shape} {place.dtype}"
            msg = (
                f"`{INPUTS}` must be (N,{shape.channels},{shape.height},{shape.width}) float32, normalized; got {found}"
            )
            raise BadRequest(msg)
        return _Request(position, _tensor(body, layout, INPUTS, np.float32), layout, body)

    def _photo(self, body: bytes) -> Tensor:
        limits = Limits()
        try:
            image = read_image(body, self._classifier.preprocessing, limits=limits, field="body")
            pixels = to_pixels(image, self._classifier.preprocessing, limits=limits, field="body")
        except AuditcoreError as error:
            msg = f"the body is neither tensors in the safetensors format nor a photo: {error.message}"
            raise BadRequest(msg) from error
        return self._classifier.normalize(pixels[None].to(self._classifier.device)).cpu()

    def _predict(self, read: Sequence[_Request]) -> list[Tensor]:
        """Compute the logits of every request, all images in one pass."""
        if not read:
            return []
        inputs = torch.cat([one.inputs for one in read]).to(self._classifier.device)
        with torch.inference_mode():
            logits = self._classifier.folded(inputs.contiguous(memory_format=self._classifier.memory_format)).cpu()
        return list(logits.split([len(one.inputs) for one in read]))

    def _encoded(self, one: _Request, logits: Tensor, context: ServeContext) -> Answer:
        if one.layout is not None:
            context.set_response_content_type(one.position, TENSORS)
            return write_tensors({LOGITS: ("F32", tuple(logits.shape), logits.contiguous().numpy().tobytes())})
        context.set_response_content_type(one.position, "application/json")
        probabilities = self._classifier.probabilities(logits)
        return json.dumps({"logits": logits[0].tolist(), "probabilities": probabilities[0].tolist()})

    def _explain(self, one: _Request) -> bytes:
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
        pixels = (inputs * self._classifier.std + self._classifier.mean).contiguous(
            memory_format=self._classifier.memory_format
        )
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
        if not explainer.computes_maps:
            return "maps are what is asked for"
        if explainer.called_function is not None or explainer.server is not None:
            return "it runs code or asks a server that nobody has allowed here"
        if explainer.needs_measure_wave:
            return "it needs statistics over the images of a whole audit"
        return applicability(self._classifier, explainer)

    def _targets(self, one: _Request, pixels: Tensor) -> Tensor:
        """Return the requested classes, or the predicted ones if none were requested."""
        if one.layout is None or TARGETS not in one.layout.tensors:
            return self._classifier.logits(pixels).argmax(1)
        place = one.layout.tensors[TARGETS]
        if place.dtype != "I64" or place.shape != (len(pixels),):
            msg = f"`{TARGETS}` must be ({len(pixels)},) int64, one class per image; got {place.shape} {place.dtype}"
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
    """Return a header, under its own name or in lower case."""
    return context.get_request_header(position, name) or context.get_request_header(position, name.lower())


def _refused(context: ServeContext, position: int, error: BadRequest) -> str:
    context.set_response_status(code=400, phrase="Bad Request", idx=position)
    context.set_response_content_type(position, "application/json")
    return json.dumps({"code": 400, "type": "BadRequestException", "message": str(error)})


_HANDLERS: dict[str, AuditcoreHandler] = {}
_LOADING = threading.Lock()


def handle(data: Sequence[Mapping[str, Any]] | None, context: ServeContext) -> list[Answer] | None:
    """Load the model or answer requests: TorchServe's entry point.

    Args:
        data: One mapping per request, with its body; None when the worker starts.
        context: TorchServe's context.

    Returns:
        One answer per request; None when the worker starts.
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
