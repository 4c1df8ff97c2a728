"""Many encoded images to one tensor; one that cannot be used never stops the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.access import Limits
from auditcore.contracts.models import Preprocessing
from auditcore.contracts.shards import ImageRecord
from auditcore.errors import InputError
from auditcore.images.decode import decode_image
from auditcore.images.encoded import EncodedImage
from auditcore.images.preprocess import PixelBox, pixel_boxes, to_pixels


class LabeledBox(NamedTuple):
    """An object in the model's square input, with its class if one was given."""

    pixels: PixelBox
    label: int | None


@dataclass(frozen=True)
class DecodedBatch:
    """The usable images of a batch as one tensor, and what became of the others.

    Attributes:
        pixels: (N,3,S,S) float32 in pixel space [0, 1], on the CPU; N is 0 when nothing was usable.
        used: Positions of the usable images in the sequence given, ascending; row i of `pixels` is image `used[i]`.
        digests: Content address of each usable file, in the order of `used`.
        boxes: Objects of each usable image that are at least partly inside its square, in the order of `used`.
        excluded: One record for each other image, with the error's `code` and its message as `reason`.
    """

    pixels: Float[Tensor, "image 3 side side"]
    used: tuple[int, ...]
    digests: tuple[str, ...]
    excluded: tuple[ImageRecord, ...]
    boxes: tuple[tuple[LabeledBox, ...], ...] = ()


def decode_batch(images: Sequence[EncodedImage], preprocessing: Preprocessing, limits: Limits) -> DecodedBatch:
    """Decode and preprocess images in order.

    Args:
        images: Encoded files; equal files may occur twice.
        preprocessing: Sizes of the model's input.
        limits: Bytes and pixels allowed for each image.
    """
    rows: list[Float[Tensor, "3 side side"]] = []
    used: list[int] = []
    digests: list[str] = []
    boxes: list[tuple[LabeledBox, ...]] = []
    excluded: list[ImageRecord] = []
    for position, image in enumerate(images):
        digest = image.digest
        field = f"images.{image.index}"
        try:
            decoded = decode_image(image.data, limits=limits, field=field)
            rows.append(to_pixels(decoded, preprocessing, limits=limits, field=field))
        except InputError as error:
            excluded.append(
                ImageRecord(
                    index=image.index,
                    name=image.name,
                    digest=digest,
                    label=image.label,
                    code=error.code,
                    reason=error.message,
                )
            )
        else:
            used.append(position)
            digests.append(digest)
            boxes.append(_labeled_boxes(image, decoded.size, preprocessing))
    side = preprocessing.crop
    pixels = torch.stack(rows) if rows else torch.empty((0, 3, side, side))
    return DecodedBatch(pixels, tuple(used), tuple(digests), tuple(excluded), tuple(boxes))


def _labeled_boxes(image: EncodedImage, size: tuple[int, int], preprocessing: Preprocessing) -> tuple[LabeledBox, ...]:
    """The boxes of an image that are at least partly inside the model's square, with their labels."""
    found = pixel_boxes(image.boxes, size, preprocessing)
    return tuple(
        LabeledBox(pixels, box.label) for pixels, box in zip(found, image.boxes, strict=True) if pixels is not None
    )
