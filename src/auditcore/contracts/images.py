"""References to images in a request, and the manifest of a stored batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, final

from pydantic import AfterValidator, Base64Bytes, Field, model_validator

from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.class_names import ClassNames
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.image_names import NAME_LENGTH, inline_name
from auditcore.contracts.masks import Mask, Masks, StoredMask, StoredMasks
from auditcore.contracts.tensor_declaration import TensorDeclaration
from auditcore.errors import InvalidRequest

# strict, here and below: a class of `true` or a corner of "10" is a mistake in the request
Label = Annotated[int, Field(ge=0, strict=True, description="Class index, from 0.")]


def _differ(labels: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if isinstance(labels, tuple) and len(set(labels)) < len(labels):
        msg = f"a class is listed twice in {list(labels)}"
        raise ValueError(msg)
    return labels


# around the whole union: inside it, the path of an error would name the validator
Labels = Annotated[Label | Annotated[tuple[Label, ...], Field(min_length=1, max_length=100)], AfterValidator(_differ)]
"""One class index, or several for a multi-label model."""

BoxUnits = Literal["pixels", "relative"]

Coordinate = Annotated[float, Field(ge=0, le=1e6, strict=True)]


@final
class Box(Contract):
    """Where an object is, in pixels of the original image: columns x0 to x1, rows y0 to y1, ends excluded.

    Attributes:
        x0: Left edge, included.
        y0: Upper edge, included.
        x1: Right edge, excluded.
        y1: Lower edge, excluded.
        units: `pixels` of the original image, or `relative` to its width and height, from 0 to 1.
    """

    x0: Coordinate
    y0: Coordinate
    x1: Coordinate
    y1: Coordinate
    label: Label | None = Field(default=None, description="Class of the object; null for every target.")
    # omitted if in pixels, so that batches keep the digests they had before there were other units
    units: BoxUnits = Field(default="pixels", exclude_if=lambda units: units == "pixels")

    @property
    def is_likely_relative(self) -> bool:
        """Whether a box in pixels ends within the first pixel, as a box in shares of the image does."""
        return self.units == "pixels" and max(self.x1, self.y1) <= 1

    @model_validator(mode="after")
    def _is_relative(self) -> Box:
        if self.units == "relative" and max(self.x1, self.y1) > 1:
            msg = f"a relative box lies within 0 and 1, got {self.x0:g}, {self.y0:g}, {self.x1:g}, {self.y1:g}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _has_area(self) -> Box:
        if self.x0 >= self.x1 or self.y0 >= self.y1:
            msg = f"a box needs x0 < x1 and y0 < y1, got {self.x0:g}, {self.y0:g}, {self.x1:g}, {self.y1:g}"
            raise ValueError(msg)
        return self


Boxes = Annotated[tuple[Box, ...], Field(max_length=1000)]


def labels_of(label: Labels | None) -> tuple[int, ...]:
    """Return all class indices of an image; empty if it has no label."""
    if label is None:
        return ()
    return (label,) if isinstance(label, int) else label


@final
class ImageBatchReference(Contract):
    """Images uploaded before with `POST /v1/image-batches`.

    Attributes:
        digest: Digest of a stored batch, from the answer to POST /v1/image-batches.
    """

    kind: Literal["batch"] = "batch"
    digest: Sha256


@final
class ImageUri(Contract):
    """One image to fetch: `file:`, `https:`, `s3:`, `gs:`, `az:` if the operator allows it, or `package:`, `blob:`.

    Attributes:
        uri: Where the file is.
        sha256: Digest that the file must have; null to accept any.
        label: True class or classes of the image; null if unknown.
        boxes: Boxes around objects, in pixels of the original image, for the check `localization`.
        masks: Masks of objects, for the same check; an image with masks needs no boxes.
    """

    uri: str = Field(min_length=1, max_length=2048)
    sha256: Sha256 | None = None
    label: Labels | None = None
    boxes: Boxes = ()
    # omitted if empty, so that requests keep the digests they had before masks existed
    masks: Masks = Field(default=(), exclude_if=lambda masks: not masks)


@final
class ImageUris(Contract):
    """Images the worker fetches itself, once, when the audit first needs them.

    Attributes:
        uris: The images, in order.
    """

    kind: Literal["uris"] = "uris"
    uris: tuple[ImageUri, ...] = Field(min_length=1, max_length=10_000)


@final
class InlineImage(Contract):
    """One encoded image file (PNG, JPEG, WebP, BMP, TIFF, GIF, DICOM, .npy, .safetensors) in base64.

    Attributes:
        data: The file in base64.
        label: True class or classes of the image; null if unknown.
        boxes: Boxes around objects, in pixels of the original image, for the check `localization`.
        masks: Masks of objects, for the same check; an image with masks needs no boxes.
    """

    data: Base64Bytes
    label: Labels | None = None
    boxes: Boxes = ()
    masks: Masks = Field(default=(), exclude_if=lambda masks: not masks)


@final
class InlineImages(Contract):
    """A few images inside the request itself.

    Attributes:
        images: The images, in order.
    """

    kind: Literal["inline"] = "inline"
    images: tuple[InlineImage, ...] = Field(min_length=1, max_length=16)


@final
class TensorImages(TensorDeclaration):
    """Images that are tensors ready for the model: one tensor (N,C,H,W) in a safetensors file.

    The model gets exactly these values: nothing is resized, cropped or normalized. The file is read when the audit is
    submitted. Of a list, there is one entry per image.

    Attributes:
        uri: Where the file is, as for `uris`.
        sha256: Digest that the file must have; null to accept any.
        labels: True class or classes of each image; null for an image whose class is unknown.
        boxes: Boxes of each image, in pixels of the tensor, for the check `localization`.
        masks: Masks of each image, of the height and width of the tensor, for the same check.
    """

    kind: Literal["tensors"] = "tensors"
    uri: str = Field(min_length=1, max_length=2048)
    sha256: Sha256 | None = None
    labels: Annotated[tuple[Labels | None, ...], Field(max_length=10_000)] = ()
    boxes: Annotated[tuple[Boxes, ...], Field(max_length=10_000)] = ()
    masks: Annotated[tuple[Masks, ...], Field(max_length=10_000)] = ()


ImagesReference = Annotated[ImageBatchReference | ImageUris | InlineImages | TensorImages, Field(discriminator="kind")]


@final
class BatchEntry(Contract):
    """One image of a stored batch.

    Attributes:
        name: Name of its file.
        digest: sha256 of its file.
        size_bytes: Size of its file.
        label: True class or classes of the image; null if unknown.
        boxes: Boxes around objects, in pixels of the original image, for the check `localization`.
        masks: Masks of objects, for the same check.
    """

    name: str = Field(max_length=NAME_LENGTH)
    digest: Sha256
    size_bytes: int = Field(ge=1)
    label: Labels | None = None
    # omitted if empty, so that batches without boxes keep the digests they had before boxes existed; so for masks
    boxes: Boxes = Field(default=(), exclude_if=lambda boxes: not boxes)
    masks: StoredMasks = Field(default=(), exclude_if=lambda masks: not masks)


def stored_masks(masks: Sequence[Mask]) -> tuple[StoredMask, ...]:
    """Masks as a batch holds them: a PNG by its digest."""
    return tuple(
        StoredMask(
            polygons=mask.polygons,
            rle=mask.rle,
            label=mask.label,
            png=None if mask.png is None else sha256(mask.png),
        )
        for mask in masks
    )


@final
class BatchManifest(Contract):
    """The images of a batch, in order; the batch's digest is the sha256 of this manifest's canonical JSON.

    Attributes:
        entries: The images.
        class_names: Names of the model's classes that labels were given by; empty if none were sent.
    """

    entries: tuple[BatchEntry, ...] = Field(min_length=1)
    # omitted if empty, so that batches without names keep the digests they had before names were kept
    class_names: ClassNames = Field(default=(), exclude_if=lambda names: not names)


def inline_manifest(images: Sequence[InlineImage]) -> BatchManifest:
    """The batch that the images of a request itself form.

    Raises:
        InvalidRequest: An image is empty.
    """
    for number, image in enumerate(images):
        if not image.data:
            msg = f"image {number} is empty; send the base64 of a file"
            raise InvalidRequest(msg, field=f"images.images.{number}.data")
    return BatchManifest(
        entries=tuple(
            BatchEntry(
                name=inline_name(number),
                digest=sha256(image.data),
                size_bytes=len(image.data),
                label=image.label,
                boxes=image.boxes,
                masks=stored_masks(image.masks),
            )
            for number, image in enumerate(images)
        )
    )
