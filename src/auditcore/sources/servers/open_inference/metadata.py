"""The tensors of a model, as a server of the Open Inference Protocol describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from auditcore.errors import InvalidRequest

Encoding = Literal["json", "binary"]
"""How the numbers of a tensor travel."""


@final
@dataclass(frozen=True)
class TensorMetadata:
    """A tensor of a model. The shape is empty if the server does not tell it; a variable size is -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@final
@dataclass(frozen=True)
class Signature:
    """Which tensors are exchanged, and how.

    Attributes:
        input: Tensor of the images.
        output: Name of the tensor of class scores.
        encoding: How both travel.
    """

    input: TensorMetadata
    output: str
    encoding: Encoding


def tensors_of(listed: object) -> list[TensorMetadata]:
    """The tensors in a list of metadata; entries without a name are left out."""
    found = []
    for one in listed_in(listed):
        if isinstance(one, dict) and "name" in one:
            # some servers write a variable size as text
            shape = tuple(extent if isinstance(extent, int) else -1 for extent in listed_in(one.get("shape")))
            found.append(TensorMetadata(str(one["name"]), str(one.get("datatype") or "FP32"), shape))
    return found


def chosen_tensor(tensors: Sequence[TensorMetadata], name: str | None, what: str) -> TensorMetadata:
    """The tensor of this name; without a name, the only tensor.

    Args:
        tensors: What the server tells of the model.
        name: The tensor that the request asks for.
        what: `input` or `output`, the field of the request.

    Raises:
        InvalidRequest: There is no tensor of this name, or no name and not exactly one tensor.
    """
    names = ", ".join(repr(tensor.name) for tensor in tensors)
    if name is None:
        if len(tensors) == 1:
            return tensors[0]
        listed = f"the model has {what}s {names}" if tensors else f"the server does not tell the {what}s of the model"
        msg = f"{listed}; name one in `{what}`"
        raise InvalidRequest(msg, field=f"model.{what}")
    found = next((tensor for tensor in tensors if tensor.name == name), None)
    if found is not None:
        return found
    if tensors:
        msg = f"the model has no {what} {name!r}; it has {names}"
        raise InvalidRequest(msg, field=f"model.{what}")
    return TensorMetadata(name, "FP32", ())


def listed_in(value: object) -> list[Any]:
    """The list that an answer holds; an empty one if it holds something else."""
    return value if isinstance(value, list) else []
