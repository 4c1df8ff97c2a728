"""What is said about a file of images that are tensors ready for the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, final

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from auditcore.contracts.contract import Contract
from auditcore.contracts.image_names import NAME_LENGTH, fault_of_name
from auditcore.contracts.preprocessing import Channels
from auditcore.errors import UndecodableImage


def _usable(name: str) -> str:
    fault = fault_of_name(name)
    if fault is not None:
        msg = f"the name {name[:NAME_LENGTH]!r} {fault}; choose another"
        raise ValueError(msg)
    return name


ImageName = Annotated[str, AfterValidator(_usable)]


class TensorDeclaration(Contract):
    """Which tensor of a file holds the images, and how they were normalized.

    Attributes:
        tensor: Name of the tensor; null if the file has only one.
        mean: What was subtracted from each channel of pixels in [0, 1]. It must be the `mean` of the model's
            `preprocessing`. Null: that one.
        std: What each channel was then divided by; null with `mean`.
        names: Name of each image in the report, in order; without names, images are called after the file.
    """

    tensor: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    mean: Channels | None = None
    std: Channels | None = None
    names: Annotated[tuple[ImageName, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="after")
    def _normalization_is_complete(self) -> TensorDeclaration:
        if (self.mean is None) != (self.std is None):
            given, missing = ("mean", "std") if self.std is None else ("std", "mean")
            msg = f"`{given}` is given without `{missing}`; give both, or neither to use those of the model"
            raise ValueError(msg)
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            msg = f"mean has {len(self.mean)} values and std {len(self.std)}; give one of each per channel"
            raise ValueError(msg)
        return self


@final
class TensorMetadata(TensorDeclaration):
    """The same as the metadata of a safetensors file: `tensor` as it is, the others as JSON."""

    def written(self) -> dict[str, str]:
        """The metadata of a file of one image, which has one tensor and its name outside of the file."""
        given = {"mean": self.mean, "std": self.std}
        return {key: json.dumps(values) for key, values in given.items() if values is not None}


def read_metadata(metadata: Mapping[str, str], *, field: str) -> TensorMetadata:
    """Read what the metadata of a safetensors file say about its images; other keys are ignored.

    Args:
        metadata: Strings of its header.
        field: Path of the file in the request, for the error.

    Raises:
        UndecodableImage: A value is not what its key means.
    """
    found = {key: metadata[key] for key in TensorMetadata.model_fields if key in metadata}
    try:
        parsed = {key: text if key == "tensor" else json.loads(text) for key, text in found.items()}
        return TensorMetadata.model_validate(parsed)
    except (ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else f"not JSON: {error}"
        msg = (
            f"the metadata {' and '.join(f'`{key}`' for key in found)} of the safetensors file cannot be used "
            f'({reason}); write lists as JSON, such as {{"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"}}'
        )
        raise UndecodableImage(msg, field=field) from error
