"""Maps from a server, by the three protocols that servers of explanations speak."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from auditcore.contracts.explainers import ServedExplainer
from auditcore.errors import ExplainerFailing, InputError, InvalidRequest
from auditcore.sources.servers.answers import Answer, Body
from auditcore.sources.servers.open_inference.encoding import ID
from auditcore.sources.servers.tensors import RawTensor
from auditcore.sources.servers.tokens import TokenFile
from auditcore.sources.servers.transport import Transport

OK, NOT_FOUND, TOO_LARGE = 200, 404, 413

FIELD = "plan.explainers"


@final
class ExplanationClient:
    """One explainer of one server."""

    def __init__(self, explainer: ServedExplainer) -> None:
        """Send no request yet."""
        self._explainer = explainer
        token = None if explainer.token_file is None else TokenFile(Path(explainer.token_file))
        self._transport = Transport(explainer.url, explainer.limits, token=token, field=FIELD)
        self._transport.allow(explainer.limits.requests)

    @property
    def requests_made(self) -> int:
        """Requests sent so far, tries included."""
        return self._transport.made

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def explain(self, batches: Sequence[RawTensor], targets: Sequence[Sequence[int]]) -> list[RawTensor]:
        """Maps of images; one request per batch, several at once.

        Args:
            batches: Images (N,C,H,W) as the server wants them.
            targets: Class of each image of each batch.

        Returns:
            Maps (N,H,W), (N,1,H,W) or (N,C,H,W) of each batch.

        Raises:
            ExplainerFailing: An answer is an error, or holds no maps of these images.
            InputError: The server cannot be reached, keeps failing, or no request is left.
        """
        bodies = [self._body(batch, own) for batch, own in zip(batches, targets, strict=True)]
        try:
            answers = self._transport.post_all(self._path, bodies)
        except InputError as error:
            # the transport serves models too, and names their fields
            error.field = FIELD
            raise
        return [self._maps(answer, batch) for answer, batch in zip(answers, batches, strict=True)]

    @property
    def _path(self) -> str:
        name, version = self._explainer.model, self._explainer.version
        match self._explainer.protocol:
            case "kserve_v1":
                return f"/v1/models/{name}:explain"
            case "torchserve":
                return f"/explanations/{name}{'' if version is None else f'/{version}'}"
            case "open_inference":
                return f"/v2/models/{name}{'' if version is None else f'/versions/{version}'}/infer"

    def _body(self, batch: RawTensor, targets: Sequence[int]) -> Body:
        match self._explainer.protocol:
            case "kserve_v1":
                instances = [
                    f'{{"data": {image}, "target": {target}}}'
                    for image, target in zip(images_in_json(batch), targets, strict=True)
                ]
                return Body(f'{{"instances": [{", ".join(instances)}]}}'.encode())
            case "torchserve":
                (image,), (target,) = images_in_json(batch), targets
                return parts_body({"data": image, "target": str(target)})
            case "open_inference":
                return self._tensors_body(batch, targets)

    def _tensors_body(self, batch: RawTensor, targets: Sequence[int]) -> Body:
        numbers = ",".join(f"{value:.9g}" for value in batch.values())
        images = {"name": self._explainer.images, "shape": list(batch.shape), "datatype": "FP32"}
        classes = {
            "name": self._explainer.targets,
            "shape": [len(targets)],
            "datatype": "INT64",
            "data": list(targets),
        }
        output = {"name": self._explainer.maps}
        text = (
            f'{{"id": "{ID}", "inputs": [{json.dumps(images)[:-1]}, "data": [{numbers}]}}, {json.dumps(classes)}], '
            f'"outputs": [{json.dumps(output)}]}}'
        )
        return Body(text.encode())

    def _maps(self, answer: Answer, batch: RawTensor) -> RawTensor:
        """The maps of an answer.

        Raises:
            ExplainerFailing: There are none, or not of these images.
        """
        self._refuse_failed(answer)
        try:
            shape, values = flattened(self._found_in(json.loads(answer.content)))
        # RecursionError: lists nested too deeply
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            msg = f"{self._name} answers no maps ({type(error).__name__}: {error}): {answer.said}; check `maps`"
            raise ExplainerFailing(msg, field=FIELD) from error
        if self._explainer.protocol == "torchserve":
            shape = (1, *shape)
        count, channels, height, width = batch.shape
        allowed = {(count, height, width), (count, 1, height, width), (count, channels, height, width)}
        if shape not in allowed:
            msg = (
                f"{self._name} must answer maps (N,H,W), (N,1,H,W) or (N,{channels},H,W) with N={count}, H={height}, "
                f"W={width}, got {shape}; let the server enlarge smaller maps to the size of the image"
            )
            raise ExplainerFailing(msg, field=FIELD)
        return RawTensor.of(shape, values)

    def _found_in(self, answer: Any) -> Any:  # noqa: ANN401 - JSON of a server
        """What of the JSON are the maps."""
        match self._explainer.protocol:
            case "kserve_v1":
                return answer[self._explainer.maps]
            case "torchserve":
                return answer
            case "open_inference":
                (found,) = (one for one in answer["outputs"] if one["name"] == self._explainer.maps)
                return shaped(flattened(found["data"])[1], [int(extent) for extent in found["shape"]])

    @property
    def _name(self) -> str:
        return f"{self._explainer.model} at {self._explainer.url}"

    def _refuse_failed(self, answer: Answer) -> None:
        if answer.status == OK:
            return
        if answer.status == TOO_LARGE:
            msg = f"{self._name} refuses the body of a request as too large; lower `limits.images_per_request`"
            raise InvalidRequest(msg, field=FIELD)
        hint = "; check `protocol`, `model` and `version`" if answer.status == NOT_FOUND else ""
        msg = f"{self._name} answers {answer.status}: {answer.said}{hint}"
        raise ExplainerFailing(msg, field=FIELD)


def images_in_json(batch: RawTensor) -> list[str]:
    """Each image (C,H,W) as nested JSON lists; nine digits identify a float32."""
    _, channels, height, width = batch.shape
    numbers = [f"{value:.9g}" for value in batch.values()]
    rows = [f"[{','.join(numbers[start : start + width])}]" for start in range(0, len(numbers), width)]
    planes = [f"[{','.join(rows[start : start + height])}]" for start in range(0, len(rows), height)]
    return [f"[{','.join(planes[start : start + channels])}]" for start in range(0, len(planes), channels)]


def parts_body(parts: dict[str, str]) -> Body:
    """JSON values as a form of several files.

    TorchServe decodes a part by its type only if it has the name of a file.
    """
    boundary = f"auditcore-{uuid.uuid4().hex}"
    pieces = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.json"\r\n'
        f"Content-Type: application/json\r\n\r\n{value}\r\n"
        for name, value in parts.items()
    ]
    return Body(f"{''.join(pieces)}--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")


def flattened(value: object) -> tuple[tuple[int, ...], list[float]]:
    """Shape and finite numbers of nested lists, in C order.

    Raises:
        ValueError: Lists of one level differ in length, or a number is not finite.
        TypeError: A value is no number.
    """
    if not isinstance(value, list):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            msg = f"{str(value)[:40]!r} is no number"
            raise TypeError(msg)
        if not math.isfinite(value):
            msg = "a value is NaN or infinite"
            raise ValueError(msg)
        return (), [float(value)]
    found = [flattened(each) for each in value]
    shapes = {shape for shape, _ in found}
    if len(shapes) != 1:
        msg = "lists of one level differ in length or are empty"
        raise ValueError(msg)
    return (len(found), *shapes.pop()), [number for _, numbers in found for number in numbers]


def shaped(values: list[float], shape: list[int]) -> Any:  # noqa: ANN401 - nested lists
    """Numbers in C order as nested lists.

    Raises:
        ValueError: The shape has another number of values.
    """
    if min(shape, default=0) < 1 or math.prod(shape) != len(values):
        msg = f"{len(values)} values do not fit the shape {shape}"
        raise ValueError(msg)
    nested: list[Any] = values
    for extent in reversed(shape[1:]):
        nested = [nested[start : start + extent] for start in range(0, len(nested), extent)]
    return nested
