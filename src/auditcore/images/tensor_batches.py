"""Files of tensors ready for a model, cut into files of one image each.

Needs neither NumPy nor torch, as a gateway has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from auditcore.contracts.access import Limits
from auditcore.contracts.image_names import short_name
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.tensor_declaration import TensorDeclaration, TensorMetadata, read_metadata
from auditcore.errors import LimitExceeded, UndecodableImage
from auditcore.tensor_files import (
    LENGTH_BYTES,
    MOST_HEADER_BYTES,
    SIZES,
    TensorFileInvalid,
    TensorPlace,
    header_end,
    read_layout,
    write_tensors,
)

TENSOR_SUFFIX = ".safetensors"

VALUE_TYPES = ("F32", "F16", "BF16", "F64")
"""Types of values that an image may have."""

SAME = 1e-6
"""Difference up to which two means or standard deviations are the same float32 number, written differently."""

_IMAGE = "image"
"""Name of the tensor in a file of one image."""


@runtime_checkable
class ByteStream(Protocol):
    """A file that is read from any position: on disk, in memory, or in an archive."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; fewer only at the end."""
        ...

    def seek(self, offset: int, /) -> int:
        """Go to a position, counted from the beginning."""
        ...


@final
@dataclass(frozen=True)
class TensorBatch:
    """The images in a file.

    Attributes:
        place: Position and type of their values.
        images: Number of images.
        shape: Channels, height and width of each.
        declared: How they were normalized, and their names.
    """

    place: TensorPlace
    images: int
    shape: InputShape
    declared: TensorMetadata

    @property
    def image_bytes(self) -> int:
        """Bytes of the values of one image."""
        return self.shape.channels * self.shape.pixels * SIZES[self.place.dtype]

    def names(self, file: str) -> tuple[str, ...]:
        """Names of the images: the declared ones; else the file's own, with a number if it holds several."""
        if self.declared.names:
            return self.declared.names
        if self.images == 1:
            return (short_name(file),)
        stem = file.removesuffix(TENSOR_SUFFIX)
        digits = len(str(self.images - 1))
        return tuple(short_name(f"{stem}-{number:0{digits}}{TENSOR_SUFFIX}") for number in range(self.images))


def is_tensor_file(start: bytes, name: str | None = None) -> bool:
    """Whether a file is one of tensors: it begins with the length of a JSON object and the object, or is named so.

    Args:
        start: At least its first nine bytes; an empty file is none.
        name: Its name; damaged files are known by it.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    begins = start[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and length <= MOST_HEADER_BYTES
    return begins or (bool(start) and (name or "").lower().endswith(TENSOR_SUFFIX))


def open_batch(
    stream: ByteStream, *, size: int, limits: Limits, field: str, declared: TensorDeclaration | None = None
) -> TensorBatch:
    """Read the header of a file of images.

    Args:
        stream: The file, at its beginning.
        size: Its size in bytes.
        limits: Those of a batch hold for the file, `image_bytes` for the values of each image.
        field: Path of the file in the request, for errors.
        declared: What is said beside the file; what it leaves open is read from the metadata of the file.

    Raises:
        LimitExceeded: The file or its images are too large, or there are too many.
        UndecodableImage: It is not a safetensors file with a tensor of images, or what is declared does not fit.
    """
    try:
        start = stream.read(LENGTH_BYTES)
        end = header_end(start, size=size)
        layout = read_layout(start + stream.read(end - LENGTH_BYTES), size=size)
    except TensorFileInvalid as error:
        msg = f"the file cannot be read as safetensors: {error}"
        raise UndecodableImage(msg, field=field) from error
    metadata = _completed(declared, read_metadata(layout.metadata, field=field))
    name, place = _tensor(layout.tensors, metadata.tensor, field)
    shape = place.shape if len(place.shape) == 4 else (1, *place.shape)  # noqa: PLR2004 - axes
    if len(shape) != 4:  # noqa: PLR2004 - axes
        msg = f"the tensor {name!r} has shape {place.shape}; images are (N,C,H,W), and one image may be (C,H,W)"
        raise UndecodableImage(msg, field=field)
    if min(shape) == 0:
        msg = f"the tensor {name!r} has shape {place.shape} and holds no image; save at least one"
        raise UndecodableImage(msg, field=field)
    if place.dtype not in VALUE_TYPES:
        msg = (
            f"the tensor {name!r} has values of type {place.dtype}; tensors ready for a model are float32, float16, "
            "bfloat16 or float64: save the result of your preprocessing, or send the image files"
        )
        raise UndecodableImage(msg, field=field)
    images, *rest = shape
    batch = TensorBatch(place, images, InputShape(*rest), metadata)
    _require_fit(batch, field)
    _require_limits(batch, size, limits, field)
    return batch


def cut(stream: ByteStream, batch: TensorBatch, *, field: str) -> Iterator[bytes]:
    """Yield each image of a file as a file of its own; only one is in memory at a time.

    The same values with the same normalization give the same bytes, whatever file they come from.

    Args:
        stream: The file, which can be sought.
        batch: Its contents, as `open_batch` returns them.
        field: Path of the file in the request, for errors.

    Raises:
        UndecodableImage: The file is shorter than its size said.
    """
    stream.seek(batch.place.start)
    for number in range(batch.images):
        values = stream.read(batch.image_bytes)
        if len(values) < batch.image_bytes:
            msg = f"the file ends within image {number} of {batch.images}; send it again in full"
            raise UndecodableImage(msg, field=field)
        yield write_tensors({_IMAGE: (batch.place.dtype, tuple(batch.shape), values)}, batch.declared.written())


def require_model(batch: TensorBatch, preprocessing: Preprocessing, *, field: str) -> None:
    """Refuse tensors that were made for another input or by another normalization than those of a model.

    Args:
        batch: The tensors.
        preprocessing: Of the model.
        field: Path in the request, for the error.

    Raises:
        UndecodableImage: They do not fit.
    """
    if batch.shape != preprocessing.shape:
        _, height, width = batch.shape
        msg = (
            f"the tensor is {batch.shape}, and the model takes {preprocessing.shape}; tensors are never resized: make "
            'them for this model, or declare `"preprocessing": {"resize": null, "crop": '
            f'{{"height": {height}, "width": {width}}}, "mean": ..., "std": ...}}` of the model'
        )
        raise UndecodableImage(msg, field=field)
    for name, declared, own in (
        ("mean", batch.declared.mean, preprocessing.mean),
        ("std", batch.declared.std, preprocessing.std),
    ):
        if declared is not None and any(abs(one - other) > SAME for one, other in zip(declared, own, strict=True)):
            msg = (
                f"the tensor was normalized by the {name} {listed(declared)}, and the model by the {name} "
                f"{listed(own)} of its `preprocessing`; declare the same, or normalize the tensor for this model"
            )
            raise UndecodableImage(msg, field=field)


def listed(values: Iterable[float]) -> str:
    """Numbers as messages quote them."""
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _completed(declared: TensorDeclaration | None, metadata: TensorMetadata) -> TensorMetadata:
    """What is declared beside a file, and what only the file says."""
    if declared is None:
        return metadata
    given = {key: getattr(declared, key) for key in TensorMetadata.model_fields if getattr(declared, key)}
    return metadata.model_copy(update=given)


def _tensor(tensors: Mapping[str, TensorPlace], wanted: str | None, field: str) -> tuple[str, TensorPlace]:
    """Name and position of the tensor that holds the images."""
    names = ", ".join(repr(name[:80]) for name in list(tensors)[:5]) + (", ..." if len(tensors) > 5 else "")  # noqa: PLR2004 - listed
    if wanted is not None:
        if wanted not in tensors:
            msg = f"the file has no tensor {wanted[:80]!r}; it has {names or 'none'}: name one of them as `tensor`"
            raise UndecodableImage(msg, field=field)
        return wanted, tensors[wanted]
    if len(tensors) != 1:
        msg = (
            f"the file has {len(tensors)} tensors ({names or 'none'}); name the one with the images as `tensor`, in "
            "the request or in the metadata of the file, or save it on its own"
        )
        raise UndecodableImage(msg, field=field)
    return next(iter(tensors.items()))


def _require_fit(batch: TensorBatch, field: str) -> None:
    mean, names = batch.declared.mean, batch.declared.names
    if mean is not None and len(mean) != batch.shape.channels:
        msg = (
            f"mean and std have {len(mean)} values, and the images {batch.shape.channels} channels; give one of each "
            "per channel"
        )
        raise UndecodableImage(msg, field=field)
    if names and len(names) != batch.images:
        msg = f"names has {len(names)} entries for {batch.images} images; give one per image, or none"
        raise UndecodableImage(msg, field=field)


def _require_limits(batch: TensorBatch, size: int, limits: Limits, field: str) -> None:
    """Refuse what is too large before a value is read, or skipped in an archive."""
    for what, limit, actual, unit in (
        ("the file", limits.batch_bytes, size, "bytes"),
        ("the tensor", limits.batch_images, batch.images, "images"),
        (f"each image of the tensor, {batch.shape},", limits.image_bytes, batch.image_bytes, "bytes"),
    ):
        if actual > limit:
            raise LimitExceeded(what=what, limit=limit, actual=actual, unit=unit, field=field)
