"""One model of a TorchServe 0.12, with this project's handler or with the plain `image_classifier`."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from pydantic import ValidationError

from auditcore.contracts.capabilities import BLACK_BOX, ModelCapabilities
from auditcore.contracts.server_models import TorchServeModel
from auditcore.errors import InvalidRequest, ModelOutputInvalid
from auditcore.sources.servers.answers import Answer, Body
from auditcore.sources.servers.client import Description
from auditcore.sources.servers.tensors import RawTensor
from auditcore.sources.servers.tokens import TokenFile
from auditcore.sources.servers.torchserve.messages import (
    DESCRIBE,
    HEADER,
    INPUTS,
    LOGITS,
    TENSORS,
    ServedDescription,
)
from auditcore.sources.servers.transport import Transport
from auditcore.tensor_files import TensorFileInvalid, read_layout, write_tensors

OK, NOT_FOUND = 200, 404
TOO_LARGE = 413

GRAY_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKElEQVR42u3NQQEAAAQEMCS/6Erw2wqsk9SnqWcCgUAgEAgEAoHgygK+PQHA"
    "s0oJIwAAAABJRU5ErkJggg=="
)
"""A photo of 32 x 32 pixels of gray 128, written out because a gateway sends it and has no Pillow."""

HEADER_BYTES = 1024
"""Room for the header of a body of tensors."""

HANDLER = "handler"
PLAIN = "image_classifier"


@final
class TorchServeClient:
    """One model of one TorchServe.

    One request tells which handler there is: to a gray photo with a certain header, this project's handler answers with
    a description, and any other handler with a prediction.
    """

    def __init__(self, model: TorchServeModel) -> None:
        """Send no request yet."""
        self._model = model
        path = None if model.token_file is None else Path(model.token_file)
        self._inference = Transport(model.url, model.limits, token=None if path is None else TokenFile(path))
        self._management = (
            None
            if model.management_url is None
            else Transport(
                model.management_url,
                model.limits,
                token=None if path is None else TokenFile(path, "management"),
                field="model.management_url",
            )
        )
        self._plain = False

    @property
    def requests_made(self) -> int:
        """Requests sent so far, tries included."""
        return self._inference.made

    def allow(self, requests: int | None) -> None:
        """Set how many further requests may be made; any number if None."""
        self._inference.allow(requests)

    def close(self) -> None:
        """Close the connections."""
        self._inference.close()
        if self._management is not None:
            self._management.close()

    def describe(self) -> Description:
        """Ask for the description of the model, of the pinned version if there is one.

        Raises:
            InvalidRequest: TorchServe has no such model or version, or the request lacks what a plain handler needs.
            ModelOutputInvalid: The handler's answer is not a prediction of classes.
            InputError: TorchServe does not answer.
        """
        probe = Body(GRAY_PNG, "image/png", {HEADER: DESCRIBE})
        answer = self._inference.post(self._path, probe)
        self._refuse_failed(answer)
        try:
            said = ServedDescription.model_validate_json(answer.content)
        except ValidationError:
            return self._describe_plain(answer)
        return self._describe_handler(said)

    def images_per_request(self, image_bytes: int) -> int:
        """Number of images in one request; one photo for the plain handler."""
        if self._plain:
            return 1
        return max(1, (self._model.limits.request_bytes - HEADER_BYTES) // image_bytes)

    def predict(self, batches: Sequence[RawTensor]) -> list[RawTensor]:
        """Logits (N,classes) of normalized inputs; probabilities from the plain handler.

        Raises:
            InputError: TorchServe fails, or its answer is not class scores.
        """
        encode, decode = (self._photo, self._probabilities) if self._plain else (self._tensors, self._logits)
        answers = self._inference.post_all(self._path, [encode(batch) for batch in batches])
        for answer in answers:
            self._refuse_failed(answer)
        return [decode(answer) for answer in answers]

    @property
    def _path(self) -> str:
        version = "" if self._model.version is None else f"/{self._model.version}"
        return f"/predictions/{self._model.name}{version}"

    def _describe_handler(self, said: ServedDescription) -> Description:
        self._plain = False
        model = self._model
        if model.classes is not None and model.classes != said.classes:
            msg = f"the model has {said.classes} classes, not {model.classes}; check `classes` and the model"
            raise ModelOutputInvalid(msg, field="model.classes")
        for name in ("scores", "preprocessing"):
            asked, served = getattr(model, name), getattr(said, name)
            if asked is not None and asked != served:
                msg = f"the handler has other {name} than the request; leave {name} out, or archive the model again"
                raise InvalidRequest(msg, field=f"model.{name}")
        return Description(
            server=f"TorchServe with the handler of auditcore {said.auditcore}",
            name=said.name,
            version=said.version,
            weights=said.weights,
            classes=said.classes,
            capabilities=BLACK_BOX,
            outputs="logits",
            scores=said.scores,
            preprocessing=said.preprocessing,
            said={"handler": HANDLER, "explainers": ", ".join(said.explainers)},
        )

    def _describe_plain(self, answer: Answer) -> Description:
        """Describe a handler that only predicts; the request must give what the handler does not tell."""
        self._plain = True
        model = self._model
        answered = self._top(answer)
        if model.classes is None and not model.class_names:
            msg = (
                f"the handler answers its {len(answered)} most probable classes and does not say how many there are; "
                "give `classes`, or `class_names` if it answers names"
            )
            raise InvalidRequest(msg, field="model.classes")
        if model.preprocessing is None:
            msg = (
                "the handler does not say what it does to photos; give `preprocessing` with the size to send, and mean "
                "0 and std 1, since it normalizes photos itself"
            )
            raise InvalidRequest(msg, field="model.preprocessing")
        for name in answered:
            self._index(name)
        classes = len(model.class_names) or model.classes
        whole = classes is not None and len(answered) >= classes
        return Description(
            server="TorchServe with a handler of its own",
            name=model.name,
            version=model.version or self._default_version(),
            classes=classes,
            capabilities=BLACK_BOX if whole else ModelCapabilities(gradients=False, top_classes=len(answered)),
            outputs="probabilities",
            scores=model.scores or "softmax",
            preprocessing=model.preprocessing,
            said={"handler": PLAIN, "answered": str(len(answered))},
        )

    def _default_version(self) -> str | None:
        """The version that answers by default, if the management API is known."""
        if self._management is None:
            return None
        answer = self._management.get(f"/models/{self._model.name}")
        if answer.status != OK:
            return None
        try:
            return str(json.loads(answer.content)[0]["modelVersion"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return None

    def _top(self, answer: Answer) -> dict[str, float]:
        """The answer of the plain handler: class -> probability."""
        try:
            found = json.loads(answer.content)
            scores = {str(name): float(score) for name, score in found.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            msg = (
                f"the handler of {self._model.name!r} answers neither class scores nor a description ({answer.said}); "
                "serve the model with `image_classifier`, or with the handler of docker/torchserve"
            )
            raise ModelOutputInvalid(msg, field="model.name") from error
        if not scores or not all(math.isfinite(score) for score in scores.values()):
            msg = f"the handler of {self._model.name!r} answers no finite score ({answer.said}); check the model"
            raise ModelOutputInvalid(msg, field="model.name")
        return scores

    @cached_property
    def _indices(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self._model.class_names)}

    def _index(self, name: str) -> int:
        """Index of a class, which the handler gives by name or by number."""
        classes = len(self._model.class_names) or self._model.classes or 0
        index = self._indices.get(name, int(name) if name.isdecimal() and not self._indices else -1)
        if not 0 <= index < classes:
            what = "one of `class_names`" if self._indices else f"a number below {classes}, the given `classes`"
            field = "model.class_names" if self._indices or not name.isdecimal() else "model.classes"
            msg = f"the handler answers class {name[:80]!r}, which is not {what}; give all names, in the model's order"
            raise ModelOutputInvalid(msg, field=field)
        return index

    def _tensors(self, batch: RawTensor) -> Body:
        return Body(write_tensors({INPUTS: ("F32", batch.shape, batch.data)}), TENSORS)

    def _logits(self, answer: Answer) -> RawTensor:
        try:
            place = read_layout(answer.content).tensors[LOGITS]
        except (TensorFileInvalid, KeyError) as error:
            msg = f"the handler answers no logits ({answer.said}); archive the model again with this version"
            raise ModelOutputInvalid(msg, field="model.name") from error
        if place.dtype != "F32":
            msg = f"the handler answers logits of type {place.dtype}, not F32; archive the model with this version"
            raise ModelOutputInvalid(msg, field="model.name")
        return RawTensor(place.shape, answer.content[place.start : place.stop])

    def _photo(self, batch: RawTensor) -> Body:
        """The only image of a batch, as the photo before normalization."""
        preprocessing = self._model.preprocessing
        assert preprocessing is not None  # noqa: S101 - `describe` refuses the plain handler without
        channels, height, width = batch.shape[1:]
        plane = height * width
        values = batch.values()
        pixels = bytearray(channels * plane)
        for channel, (mean, std) in enumerate(zip(preprocessing.mean, preprocessing.std, strict=True)):
            own = values[channel * plane : (channel + 1) * plane]
            pixels[channel::channels] = bytes(min(255, max(0, round(255 * (value * std + mean)))) for value in own)
        return Body(_png(bytes(pixels), "L" if channels == 1 else "RGB", (width, height)), "image/png")

    def _probabilities(self, answer: Answer) -> RawTensor:
        """Probabilities of all classes; those missing in the answer share the remaining probability equally."""
        classes = len(self._model.class_names) or self._model.classes or 0
        top = {self._index(name): score for name, score in self._top(answer).items()}
        left = max(0.0, 1.0 - sum(top.values()))
        rest = left / max(1, classes - len(top))
        # a class that is missing in the answer must not look more probable than one in it
        row = [top.get(index, min(rest, *top.values())) for index in range(classes)]
        total = sum(row)
        return RawTensor.of((1, classes), [score / total for score in row])

    def _refuse_failed(self, answer: Answer) -> None:
        """Turn an error of TorchServe itself into an error of this project."""
        if answer.status == OK:
            return
        said = _error(answer)
        name, version = self._model.name, self._model.version
        if answer.status == NOT_FOUND:
            if said.get("type") == "ModelVersionNotFoundException" or (version is not None and "ersion" in answer.said):
                msg = f"{self._inference.url} has no version {version!r} of model {name!r}; give one that is registered"
                raise InvalidRequest(msg, field="model.version")
            msg = f"{self._inference.url} has no model {name!r}{self._registered()}"
            raise InvalidRequest(msg, field="model.name")
        if answer.status == TOO_LARGE:
            msg = (
                f"TorchServe refuses a body of {self._model.limits.request_bytes} bytes; lower `request_bytes`, or "
                "raise max_request_size in its config.properties"
            )
            raise InvalidRequest(msg, field="model.limits.request_bytes")
        msg = f"{self._inference.url} answers {answer.status} for model {name!r}: {said.get('message', answer.said)}"
        raise ModelOutputInvalid(msg, field="model.name")

    def _registered(self) -> str:
        """The registered names for an error message, if the management API is known."""
        if self._management is None:
            return "; check its spelling, or ask the operator of the server"
        try:
            names = [str(one["modelName"]) for one in json.loads(self._management.get("/models").content)["models"]]
        except (ValueError, LookupError, TypeError, RecursionError):
            return "; check its spelling"
        return f"; there are {', '.join(names[:20])}" if names else "; it has no model"


def _png(pixels: bytes, mode: str, size: tuple[int, int]) -> bytes:
    """A photo of this mode, width and height, whose channels are given pixel by pixel, a byte each."""
    from PIL import Image  # noqa: PLC0415 - the engine has it; a gateway only describes models and sends `GRAY_PNG`

    file = io.BytesIO()
    # the fastest level: a photo of 224 x 224 pixels takes a quarter of the time of Pillow's default, and 6 % more bytes
    Image.frombytes(mode, size, pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _error(answer: Answer) -> Mapping[str, Any]:
    try:
        found = json.loads(answer.content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
