"""One model of a server of the Open Inference Protocol v2: KServe, Triton, MLServer, OpenVINO."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from auditcore.contracts.capabilities import BLACK_BOX
from auditcore.contracts.server_models import OpenInferenceModel
from auditcore.errors import InvalidRequest, ModelChanged, ModelOutputInvalid, UnreachableResource
from auditcore.sources.servers.answers import Answer
from auditcore.sources.servers.client import Description
from auditcore.sources.servers.open_inference.encoding import (
    FLOATS,
    HEADER_LENGTH,
    bytes_of_value,
    channels_last,
    first_rows,
    request_body,
    values_of,
)
from auditcore.sources.servers.open_inference.metadata import (
    Encoding,
    Signature,
    TensorMetadata,
    chosen_tensor,
    listed_in,
    tensors_of,
)
from auditcore.sources.servers.tensors import RawTensor
from auditcore.sources.servers.tokens import TokenFile
from auditcore.sources.servers.transport import Transport

OK, NOT_FOUND, TOO_LARGE = 200, 404, 413

BINARY_EXTENSIONS = frozenset({"binary_tensor_data", "binary_tensor_data_extension"})
"""Names that Triton and KServe give the binary extension in the list of a server's extensions."""

HEADER_BYTES = 2048
"""Room for the JSON of a request without its numbers."""


@final
class OpenInferenceClient:
    """One model of one server."""

    def __init__(self, model: OpenInferenceModel) -> None:
        """Send no request yet."""
        self._model = model
        token = None if model.token_file is None else TokenFile(Path(model.token_file))
        self._transport = Transport(model.url, model.limits, token=token)
        self._signature: Signature | None = None
        self._version = model.version

    @property
    def requests_made(self) -> int:
        """Requests sent so far, tries included."""
        return self._transport.made

    def allow(self, requests: int | None) -> None:
        """Set how many further requests may be made; any number if None."""
        self._transport.allow(requests)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def describe(self) -> Description:
        """Ask for the descriptions of the server and of the model.

        Raises:
            InvalidRequest: There is no such model, version or tensor.
            ModelOutputInvalid: A tensor has a type or shape that does not fit images or class scores.
            ModelChanged: The model was served before and is not any more.
            InputError: The server does not answer.
        """
        server = self._json(self._transport.get("/v2"), "server")
        model = self._json(self._transport.get(self._path), "model")
        wanted = chosen_tensor(tensors_of(model.get("inputs")), self._model.input, "input")
        given = chosen_tensor(tensors_of(model.get("outputs")), self._model.output, "output")
        extensions = {str(name) for name in listed_in(server.get("extensions"))}
        self._signature = Signature(wanted, given.name, self._encoding(extensions))
        self._refuse_misfit(wanted, given)
        versions = [str(version) for version in listed_in(model.get("versions"))]
        # if several versions are served, only the answers tell which one is the default. The list is no part of the
        # pin: another version beside the audited one changes nothing
        version = self._model.version or (versions[0] if len(versions) == 1 else None)
        classes = given.shape[1] if len(given.shape) == 2 and given.shape[1] > 0 else self._model.classes  # noqa: PLR2004 - axes
        if self._model.classes is not None and classes != self._model.classes:
            msg = f"the model has {classes} classes, not {self._model.classes}; check `classes` and the model"
            raise ModelOutputInvalid(msg, field="model.classes")
        return Description(
            server=f"{server.get('name') or 'a server'} {server.get('version') or ''}".strip(),
            name=str(model.get("name") or self._model.name),
            version=version,
            classes=classes,
            capabilities=BLACK_BOX,
            outputs=self._model.outputs,
            scores=self._model.scores,
            preprocessing=self._model.preprocessing,
            said={
                "platform": str(model.get("platform") or ""),
                "input": f"{wanted.name} {wanted.datatype} {list(wanted.shape)}",
                "output": f"{given.name} {given.datatype} {list(given.shape)}",
                "tensors": self._signature.encoding,
            },
        )

    def images_per_request(self, image_bytes: int) -> int:
        """Number of images in one request; the model's batch size if that is fixed."""
        signature = self._known()
        if signature.input.shape and signature.input.shape[0] > 0:
            return signature.input.shape[0]
        values = image_bytes // 4
        each = values * bytes_of_value(signature)
        return max(1, (self._model.limits.request_bytes - HEADER_BYTES) // each)

    def predict(self, batches: Sequence[RawTensor]) -> list[RawTensor]:
        """Outputs as the server declares them; one request per batch.

        Raises:
            ModelChanged: Another version answered than the pinned one.
            InputError: The server fails, or its answer is not class scores.
        """
        sizes = [len(batch) for batch in batches]
        sent = [request_body(self._filled(batch), self._known()) for batch in batches]
        answers = self._transport.post_all(f"{self._path}/infer", sent)
        return [first_rows(self._outputs(answer), size) for answer, size in zip(answers, sizes, strict=True)]

    def answering_version(self) -> str | None:
        """The version that answers a gray image; None if the server does not tell it.

        Raises:
            InputError: The server does not answer with class scores.
        """
        shape = self._model.preprocessing.shape
        gray = RawTensor((1, *shape), bytes(4 * math.prod(shape)))
        answer = self._transport.post(f"{self._path}/infer", request_body(self._filled(gray), self._known()))
        self._outputs(answer)
        version = self._header(answer)[0].get("model_version")
        return None if version in {None, ""} else str(version)

    @property
    def _path(self) -> str:
        version = "" if self._model.version is None else f"/versions/{self._model.version}"
        return f"/v2/models/{self._model.name}{version}"

    def _known(self) -> Signature:
        if self._signature is None:
            self.describe()
        assert self._signature is not None  # noqa: S101 - just described
        return self._signature

    def _encoding(self, extensions: set[str]) -> Encoding:
        speaks = bool(extensions & BINARY_EXTENSIONS)
        match self._model.tensors:
            case "auto":
                return "binary" if speaks else "json"
            case encoding:
                return encoding

    def _refuse_misfit(self, wanted: TensorMetadata, given: TensorMetadata) -> None:
        for tensor, field in ((wanted, "model.input"), (given, "model.output")):
            if tensor.datatype not in FLOATS:
                msg = (
                    f"tensor {tensor.name!r} is of type {tensor.datatype}; images and class scores travel as "
                    f"{' or '.join(FLOATS)}, so serve the model with one of them"
                )
                raise ModelOutputInvalid(msg, field=field)
        channels, height, width = self._model.preprocessing.shape
        expected = (channels, height, width) if self._model.layout == "NCHW" else (height, width, channels)
        shape = wanted.shape[1:]
        fits = len(shape) == len(expected) and all(
            served in {-1, own} for served, own in zip(shape, expected, strict=False)
        )
        if wanted.shape and not fits:
            msg = (
                f"input {wanted.name!r} has shape {list(wanted.shape)}, and images would be sent as "
                f"[N, {', '.join(map(str, expected))}]; check `layout` and `preprocessing`"
            )
            raise InvalidRequest(msg, field="model.preprocessing.crop")

    def _filled(self, batch: RawTensor) -> RawTensor:
        """The batch in the server's layout, filled up to a fixed batch size with copies of its first image."""
        laid_out = channels_last(batch) if self._model.layout == "NHWC" else batch
        shape, data = laid_out.shape, laid_out.data
        fixed = self._known().input.shape[:1]
        if fixed and fixed[0] > len(batch):
            image = len(data) // len(batch)
            data += data[:image] * (fixed[0] - len(batch))
            shape = (fixed[0], *shape[1:])
        return RawTensor(shape, data)

    def _outputs(self, answer: Answer) -> RawTensor:
        self._refuse_failed(answer)
        said, end = self._header(answer)
        self._refuse_other_version(said.get("model_version"))
        name = self._known().output
        offset = end
        for tensor in listed_in(said.get("outputs")):
            if not isinstance(tensor, dict):
                break
            parameters = tensor.get("parameters")
            size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
            if tensor.get("name") == name:
                return self._scores(tensor, answer.content[offset : offset + size] if isinstance(size, int) else None)
            offset += size if isinstance(size, int) else 0
        msg = f"the server answered no tensor {name!r} ({answer.said}); check `output`"
        raise ModelOutputInvalid(msg, field="model.output")

    def _refuse_other_version(self, version: object) -> None:
        """Refuse answers of another version than the pinned one, or than the first that answered."""
        if version is None or version == "":
            return
        self._version = self._version or str(version)
        if str(version) != self._version:
            msg = f"version {version} answered, and the audit is of version {self._version}; submit it again"
            raise ModelChanged(msg, field="model.version")

    def _header(self, answer: Answer) -> tuple[Mapping[str, Any], int]:
        """The JSON of an answer, and where the bytes of its tensors begin."""
        length = answer.headers.get(HEADER_LENGTH)
        end = int(length) if length is not None and length.isdecimal() else len(answer.content)
        return self._parsed(answer.content[:end], answer), end

    def _scores(self, tensor: Mapping[str, Any], data: bytes | None) -> RawTensor:
        datatype = str(tensor.get("datatype"))
        try:
            shape = tuple(int(extent) for extent in tensor["shape"])
            if datatype not in FLOATS:
                msg = (
                    f"output {tensor.get('name')!r} is of type {datatype}; serve class scores as {' or '.join(FLOATS)}"
                )
                raise ModelOutputInvalid(msg, field="model.output")
            values = values_of(tensor, datatype, data)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            msg = f"output {tensor.get('name')!r} cannot be read ({error}); the server does not follow the protocol"
            raise ModelOutputInvalid(msg, field="model.output") from error
        if min(shape, default=0) < 0 or len(values) != math.prod(shape):
            msg = f"output {tensor.get('name')!r} has {len(values)} values, which do not fit its shape {list(shape)}"
            raise ModelOutputInvalid(msg, field="model.output")
        return RawTensor.of(shape, values)

    def _json(self, answer: Answer, what: str) -> Mapping[str, Any]:
        self._refuse_failed(answer, metadata=what)
        return self._parsed(answer.content, answer)

    def _parsed(self, content: bytes, answer: Answer) -> Mapping[str, Any]:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):  # RecursionError: lists nested too deeply
            found = None
        if not isinstance(found, dict):
            msg = f"{self._transport.url} does not speak the Open Inference Protocol v2 ({answer.said}); check `url`"
            raise UnreachableResource(msg, field="model.url")
        return found

    def _refuse_failed(self, answer: Answer, *, metadata: str | None = None) -> None:
        if answer.status == OK:
            return
        name, version = self._model.name, self._model.version
        if answer.status == NOT_FOUND and metadata == "server":
            msg = f"there is no /v2 at {self._transport.url}, so it speaks another protocol; check `url`"
            raise UnreachableResource(msg, field="model.url")
        if answer.status == TOO_LARGE:
            msg = f"the server refuses a body of {self._model.limits.request_bytes} bytes; lower `request_bytes`"
            raise InvalidRequest(msg, field="model.limits.request_bytes")
        if self._signature is not None and answer.status == NOT_FOUND:
            which = "" if version is None else f", version {version},"
            msg = f"model {name!r}{which} is no longer served ({answer.said}); submit the audit again once it stays"
            raise ModelChanged(msg, field="model.version")
        if metadata == "model" or answer.status == NOT_FOUND:
            which = "" if version is None else f" in version {version!r}"
            field = "model.name" if version is None else "model.version"
            msg = f"{self._transport.url} has no model {name!r}{which} ({answer.status}: {answer.said}); check both"
            raise InvalidRequest(msg, field=field)
        msg = f"{self._transport.url} answers {answer.status} for model {name!r}: {answer.said}"
        raise ModelOutputInvalid(msg, field="model.name")
