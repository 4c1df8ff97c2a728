"""Models behind servers of the Open Inference Protocol v2: KServe, Triton, MLServer, OpenVINO.

Tensors travel as JSON, or by the binary extension that Triton and KServe share: a JSON header, whose length is in the
header `Inference-Header-Content-Length`, and behind it the bytes of the tensors.
"""

from __future__ import annotations

import array
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import BLACK_BOX
from auditcore.contracts.server_models import OpenInferenceModel
from auditcore.errors import InvalidRequest, ModelChanged, ModelOutputInvalid, UnreachableResource
from auditcore.sources.resolved_model import Resolution
from auditcore.sources.servers.client import Description, brief
from auditcore.sources.servers.tensors import RawTensor
from auditcore.sources.servers.tokens import TokenFile
from auditcore.sources.servers.transport import Answer, Body, Transport

OK, NOT_FOUND, TOO_LARGE = 200, 404, 413

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY_EXTENSIONS = frozenset({"binary_tensor_data", "binary_tensor_data_extension"})
"""How Triton and KServe call the binary extension among those of a server."""

JSON_BYTES_A_VALUE = 16
"""A float32 in JSON with the nine digits that tell it from every other, such as `-1.23456789e-05,`, at most."""

HEADER_BYTES = 2048

ID = "auditcore"
"""Of every request: the protocol calls it optional, and KServe 0.21 fails without one."""

FLOATS: Mapping[str, str] = {"FP32": "f", "FP64": "d", "FP16": "e"}
"""Types of tensors that are read and written here, as `struct` calls them."""

Way = Literal["json", "binary"]


@final
@dataclass(frozen=True)
class _Tensor:
    """A tensor of a model's metadata; a shape that is not told is empty."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@final
@dataclass(frozen=True)
class _Signature:
    """Which tensors are exchanged, and how."""

    input: _Tensor
    output: str
    way: Way


@final
class OpenInferenceClient:
    """One model of one server."""

    def __init__(self, model: OpenInferenceModel) -> None:
        """Ask nothing yet."""
        self._model = model
        token = None if model.token_file is None else TokenFile(Path(model.token_file))
        self._transport = Transport(model.url, model.limits, token=token)
        self._signature: _Signature | None = None
        self._version = model.version

    @property
    def requests_made(self) -> int:
        """Requests sent so far, tries included."""
        return self._transport.made

    def allow(self, requests: int | None) -> None:
        """Set how many further requests may be made; any number if None."""
        self._transport.allow(requests)

    def close(self) -> None:
        """Give connections back."""
        self._transport.close()

    def describe(self) -> Description:
        """What the server says of itself and of the model.

        Raises:
            InvalidRequest: There is no such model, version or tensor.
            ModelOutputInvalid: A tensor has a type or shape that no images and class scores have.
            ModelChanged: There was such a model before.
            InputError: The server cannot be asked.
        """
        server = self._json(self._transport.get("/v2"), "server")
        model = self._json(self._transport.get(self._path), "model")
        wanted = _chosen(_tensors(model.get("inputs")), self._model.input, "input")
        given = _chosen(_tensors(model.get("outputs")), self._model.output, "output")
        extensions = {str(name) for name in _list(server.get("extensions"))}
        self._signature = _Signature(wanted, given.name, self._way(extensions))
        self._refuse_misfit(wanted, given)
        versions = [str(version) for version in _list(model.get("versions"))]
        # where several are served, nobody says which of them answers by default; the answers say it. The list is no
        # part of the pin: another version beside the audited one changes nothing
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
                "tensors": self._signature.way,
            },
        )

    def images_per_request(self, image_bytes: int) -> int:
        """Images that one request takes: as many as the model always takes, where it says so."""
        signature = self._known()
        if signature.input.shape and signature.input.shape[0] > 0:
            return signature.input.shape[0]
        values = image_bytes // 4
        each = values * (
            struct.calcsize(FLOATS[signature.input.datatype]) if signature.way == "binary" else JSON_BYTES_A_VALUE
        )
        return max(1, (self._model.limits.request_bytes - HEADER_BYTES) // each)

    def predict(self, batches: Sequence[RawTensor]) -> list[RawTensor]:
        """Outputs as the server declares them, one request a batch.

        Raises:
            ModelChanged: Another version answered than the pinned one.
            InputError: The server fails, or answers something else than class scores.
        """
        sizes = [len(batch) for batch in batches]
        sent = [self._body(self._filled(batch)) for batch in batches]
        answers = self._transport.post_all(f"{self._path}/infer", sent)
        return [_first_rows(self._outputs(answer), size) for answer, size in zip(answers, sizes, strict=True)]

    def answering_version(self) -> str | None:
        """Which version answers a gray image; None if the server does not say so.

        Raises:
            InputError: It does not answer images.
        """
        side = self._model.preprocessing.crop
        gray = RawTensor((1, 3, side, side), bytes(4 * 3 * side * side))
        answer = self._transport.post(f"{self._path}/infer", self._body(self._filled(gray)))
        self._outputs(answer)
        version = self._header(answer)[0].get("model_version")
        return None if version in {None, ""} else str(version)

    @property
    def _path(self) -> str:
        version = "" if self._model.version is None else f"/versions/{self._model.version}"
        return f"/v2/models/{self._model.name}{version}"

    def _known(self) -> _Signature:
        if self._signature is None:
            self.describe()
        assert self._signature is not None  # noqa: S101 - just described
        return self._signature

    def _way(self, extensions: set[str]) -> Way:
        speaks = bool(extensions & BINARY_EXTENSIONS)
        match self._model.tensors:
            case "auto":
                return "binary" if speaks else "json"
            case way:
                return way

    def _refuse_misfit(self, wanted: _Tensor, given: _Tensor) -> None:
        for tensor, field in ((wanted, "model.input"), (given, "model.output")):
            if tensor.datatype not in FLOATS:
                msg = (
                    f"tensor {tensor.name!r} is of type {tensor.datatype}; images and class scores travel as "
                    f"{' or '.join(FLOATS)}, so serve the model with one of them"
                )
                raise ModelOutputInvalid(msg, field=field)
        side = self._model.preprocessing.crop
        expected = (3, side, side) if self._model.layout == "NCHW" else (side, side, 3)
        shape = wanted.shape[1:]
        fits = len(shape) == len(expected) and all(
            served in {-1, own} for served, own in zip(shape, expected, strict=False)
        )
        if wanted.shape and not fits:
            msg = (
                f"input {wanted.name!r} has shape {list(wanted.shape)}, and images would be sent as "
                f"[N, {', '.join(map(str, expected))}]; check `layout` and `preprocessing.crop`"
            )
            raise InvalidRequest(msg, field="model.preprocessing.crop")

    def _filled(self, batch: RawTensor) -> RawTensor:
        """The batch in the server's layout; repeated up to a fixed batch size."""
        shape, data = batch.shape, batch.data
        if self._model.layout == "NHWC":
            shape, data = _channels_last(batch)
        fixed = self._known().input.shape[:1]
        if fixed and fixed[0] > len(batch):
            image = len(data) // len(batch)
            data += data[:image] * (fixed[0] - len(batch))
            shape = (fixed[0], *shape[1:])
        return RawTensor(shape, data)

    def _body(self, batch: RawTensor) -> Body:
        signature = self._known()
        tensor: dict[str, Any] = {
            "name": signature.input.name,
            "shape": list(batch.shape),
            "datatype": signature.input.datatype,
        }
        output: dict[str, Any] = {"name": signature.output}
        if signature.way == "json":
            return Body(_json_body(tensor, output, batch.data))
        data = _converted(batch.data, signature.input.datatype)
        tensor["parameters"] = {"binary_data_size": len(data)}
        output["parameters"] = {"binary_data": True}
        header = json.dumps({"id": ID, "inputs": [tensor], "outputs": [output]}).encode()
        return Body(header + data, "application/octet-stream", {HEADER_LENGTH: str(len(header))})

    def _outputs(self, answer: Answer) -> RawTensor:
        self._refuse_failed(answer)
        said, end = self._header(answer)
        self._refuse_other_version(said.get("model_version"))
        name = self._known().output
        offset = end
        for tensor in _list(said.get("outputs")):
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
        """All answers come from the pinned version; where none is known, from the one that answered first."""
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
            values = array.array("f", _flat(tensor["data"]) if data is None else _floats(data, datatype))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            msg = f"output {tensor.get('name')!r} cannot be read ({error}); the server does not keep to the protocol"
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
        except (ValueError, RecursionError):  # lists within lists without end
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


def resolve(model: OpenInferenceModel, access: AccessRules) -> Resolution:  # noqa: ARG001 - access was checked before
    """Version and digest of what the server serves now.

    Raises:
        InputError: It cannot be asked, or has no such model.
    """
    description = _described(model)
    if model.version is None:
        version = description.version or _answering(model)
        if version is not None:
            # from now on this version is asked for, so what is said of it is what counts
            model = model.model_copy(update={"version": version})
            description = _described(model)
    pinned = model.model_copy(update={"sha256": model.sha256 or description.pin})
    facts: dict[str, str | int] = {"server": description.server}
    if description.classes is not None:
        facts["classes"] = description.classes
    facts.update(description.said)
    return Resolution(pinned, description.capabilities, facts)


def _described(model: OpenInferenceModel) -> Description:
    client = OpenInferenceClient(model.model_copy(update={"limits": brief(model.limits)}))
    try:
        return client.describe()
    finally:
        client.close()


def _answering(model: OpenInferenceModel) -> str | None:
    """The version behind a name, where the metadata do not tell it."""
    client = OpenInferenceClient(model.model_copy(update={"limits": brief(model.limits)}))
    try:
        client.describe()
        return client.answering_version()
    finally:
        client.close()


def _tensors(listed: object) -> list[_Tensor]:
    found = []
    for one in _list(listed):
        if isinstance(one, dict) and "name" in one:
            # a size that is no number, as some write for a free one, is free
            shape = tuple(extent if isinstance(extent, int) else -1 for extent in _list(one.get("shape")))
            found.append(_Tensor(str(one["name"]), str(one.get("datatype") or "FP32"), shape))
    return found


def _chosen(tensors: Sequence[_Tensor], name: str | None, what: str) -> _Tensor:
    """The tensor of this name, or the only one."""
    names = ", ".join(repr(tensor.name) for tensor in tensors)
    if name is None:
        if len(tensors) == 1:
            return tensors[0]
        listed = f"the model has {what}s {names}" if tensors else f"the server does not tell the {what}s of the model"
        msg = f"{listed}; say which one in `{what}`"
        raise InvalidRequest(msg, field=f"model.{what}")
    found = next((tensor for tensor in tensors if tensor.name == name), None)
    if found is not None:
        return found
    if tensors:
        msg = f"the model has no {what} {name!r}; it has {names}"
        raise InvalidRequest(msg, field=f"model.{what}")
    return _Tensor(name, "FP32", ())


def _channels_last(batch: RawTensor) -> tuple[tuple[int, ...], bytes]:
    """(N,3,H,W) as (N,H,W,3)."""
    count, channels, height, width = batch.shape
    # numbers are moved and not read, so their order of bytes does not matter
    values, moved = array.array("f", batch.data), array.array("f", bytes(len(batch.data)))
    plane = height * width
    for image in range(count):
        start = image * channels * plane
        for channel in range(channels):
            own = values[start + channel * plane : start + (channel + 1) * plane]
            moved[start + channel : start + channels * plane : channels] = own
    return (count, height, width, channels), moved.tobytes()


def _first_rows(outputs: RawTensor, rows: int) -> RawTensor:
    """Without the answers to images that only filled a fixed batch."""
    if not outputs.shape or outputs.shape[0] <= rows:
        return outputs
    row = len(outputs.data) // outputs.shape[0]
    return RawTensor((rows, *outputs.shape[1:]), outputs.data[: rows * row])


def _flat(data: object) -> list[float]:
    """Values of a JSON tensor, which may be nested or flat."""
    if isinstance(data, list):
        return [value for one in data for value in (_flat(one) if isinstance(one, list) else [float(one)])]
    msg = f"data is {type(data).__name__}, not a list"
    raise TypeError(msg)


def _json_body(tensor: Mapping[str, Any], output: Mapping[str, Any], data: bytes) -> bytes:
    """A request with its numbers as text.

    Nine digits tell a float32 from every other; `json` would write the seventeen of a double.
    """
    numbers = ",".join([f"{value:.9g}" for value in _floats(data, "FP32")])
    described = json.dumps(tensor)[:-1]
    return (
        f'{{"id": "{ID}", "inputs": [{described}, "data": [{numbers}]}}], "outputs": [{json.dumps(output)}]}}'.encode()
    )


def _floats(data: bytes, datatype: str) -> Sequence[float]:
    """Numbers of a tensor of this type, little-endian.

    Raises:
        ValueError: The bytes are not a whole number of them.
    """
    size = struct.calcsize(FLOATS[datatype])
    if len(data) % size:
        msg = f"{len(data)} bytes are no tensor of {datatype}"
        raise ValueError(msg)
    return struct.unpack(f"<{len(data) // size}{FLOATS[datatype]}", data)


def _converted(data: bytes, datatype: str) -> bytes:
    """Bytes of float32 as those of another type."""
    if datatype == "FP32":
        return data
    values = _floats(data, "FP32")
    try:
        return struct.pack(f"<{len(values)}{FLOATS[datatype]}", *values)
    except OverflowError as error:
        msg = f"the images have values beyond {datatype}, which the server takes; check `mean` and `std`"
        raise InvalidRequest(msg, field="model.preprocessing") from error


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
