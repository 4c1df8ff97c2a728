"""References to images in a request, and the manifest of a stored batch."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import AfterValidator, Base64Bytes, Field, model_validator

from auditcore.contracts.contract import Contract, Sha256

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

Coordinate = Annotated[float, Field(ge=0, le=1e6, strict=True)]


@final
class Box(Contract):
    """Bounding box of an object, in pixels of the original image: columns x0 to x1, rows y0 to y1, ends excluded."""

    x0: Coordinate
    y0: Coordinate
    x1: Coordinate
    y1: Coordinate
    label: Label | None = Field(default=None, description="Class of the object; null for every target.")

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
    """Images that were uploaded with `POST /v1/image-batches`."""

    kind: Literal["batch"] = "batch"
    digest: Sha256


@final
class ImageUri(Contract):
    """One image to fetch: `file:`, `https:`, `s3:`, `gs:`, `az:` if the operator allows it, or `package:`, `blob:`."""

    uri: str = Field(min_length=1, max_length=2048)
    sha256: Sha256 | None = None
    label: Labels | None = None
    boxes: Boxes = ()


@final
class ImageUris(Contract):
    """Images that the worker fetches once, when the audit first needs them."""

    kind: Literal["uris"] = "uris"
    uris: tuple[ImageUri, ...] = Field(min_length=1, max_length=10_000)


@final
class InlineImage(Contract):
    """One encoded image file (PNG, JPEG, WebP, BMP, TIFF, GIF) in base64."""

    data: Base64Bytes
    label: Labels | None = None
    boxes: Boxes = ()


@final
class InlineImages(Contract):
    """A few images inside the request itself."""

    kind: Literal["inline"] = "inline"
    images: tuple[InlineImage, ...] = Field(min_length=1, max_length=16)


ImagesReference = Annotated[ImageBatchReference | ImageUris | InlineImages, Field(discriminator="kind")]


@final
class BatchEntry(Contract):
    """One image of a stored batch."""

    name: str = Field(max_length=255)
    digest: Sha256
    size_bytes: int = Field(ge=1)
    label: Labels | None = None
    # omitted if empty, so that batches without boxes keep the digests they had before boxes existed
    boxes: Boxes = Field(default=(), exclude_if=lambda boxes: not boxes)


@final
class BatchManifest(Contract):
    """The images of a batch, in order; the batch's digest is the sha256 of this manifest's canonical JSON."""

    entries: tuple[BatchEntry, ...] = Field(min_length=1)
