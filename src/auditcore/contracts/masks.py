"""Masks of objects in a request, and as a stored batch holds them."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import Base64Bytes, Field, model_validator

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.run_lengths import RunLengths

MASK_BYTES = 4 * 2**20
"""Most bytes of a mask as a PNG. One of two colors for a photo of 50 megapixels has less than 1 MiB."""

_CORNERS_OF_A_TRIANGLE = 3

# strict: a corner of "10" or true is a mistake in the request
MaskLabel = Annotated[int, Field(ge=0, strict=True)]
Position = Annotated[float, Field(ge=-1e6, le=1e6, strict=True)]
Polygon = tuple[Position, ...]
"""Corners of a polygon, x0, y0, x1, y1 ..., in pixels of the original image."""


class _Region(Contract):
    """What masks of a request and of a batch have in common."""

    polygons: tuple[Polygon, ...] | None = Field(
        default=None,
        description="The object as the union of polygons, each x0, y0, x1, y1 ... in pixels of the original image.",
        exclude_if=lambda value: value is None,
    )
    rle: RunLengths | None = Field(
        default=None, description="The object in COCO's run-length encoding.", exclude_if=lambda value: value is None
    )
    label: MaskLabel | None = Field(default=None, description="Class of the object; null for every target.")

    @model_validator(mode="after")
    def _polygons_have_corners(self) -> _Region:
        for polygon in self.polygons or ():
            if len(polygon) % 2 or len(polygon) < 2 * _CORNERS_OF_A_TRIANGLE:
                msg = f"a polygon is x0, y0, x1, y1 ... of at least three corners; got {len(polygon)} numbers"
                raise ValueError(msg)
        if self.polygons == ():
            msg = "`polygons` is empty; leave the mask out, or send its polygons"
            raise ValueError(msg)
        return self


@final
class Mask(_Region):
    """The pixels of one object, in exactly one form.

    Attributes:
        png: A PNG of the size of the original image; pixels that are not 0 belong to the object.
    """

    png: Base64Bytes | None = Field(default=None, max_length=MASK_BYTES, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _has_one_form(self) -> Mask:
        given = [name for name in ("polygons", "rle", "png") if getattr(self, name) is not None]
        if len(given) != 1:
            msg = f"a mask has exactly one of `polygons`, `rle` and `png`; got {' and '.join(given) or 'none of them'}"
            raise ValueError(msg)
        return self

    @classmethod
    def of_png(cls, data: bytes, *, label: int | None = None) -> Mask:
        """A mask from the bytes of a PNG, which a request has in base64."""
        return cls.model_construct(png=data, label=label)


@final
class StoredMask(_Region):
    """The pixels of one object of a stored batch.

    Attributes:
        png: Digest of a PNG of the size of the original image; pixels that are not 0 belong to the object.
    """

    png: Sha256 | None = Field(default=None, exclude_if=lambda value: value is None)


Masks = Annotated[tuple[Mask, ...], Field(max_length=1000)]
StoredMasks = Annotated[tuple[StoredMask, ...], Field(max_length=1000)]
