"""Decode many images into one tensor; an image that cannot be used is excluded and never stops the others."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.shards import ImageRecord
from auditcore.devices.transfer import empty_for
from auditcore.errors import InputError
from auditcore.images.box_units import boxes_in_pixels
from auditcore.images.encoded import EncodedImage
from auditcore.images.masks import mask_on_input, mask_pixels
from auditcore.images.preprocess import PixelBox, pixel_boxes, to_pixels
from auditcore.images.reading import read_image
from auditcore.images.tensor_batches import is_tensor_file
from auditcore.images.tensor_images import read_tensor_image

HOST = torch.device("cpu")

MOST_THREADS = 8
"""Threads that decode. What they do in Python they do one after the other: on 16 cores beside an H200, 16 threads were
no faster than 8, and the thread that feeds the card has to wait for its turn among them."""

SMALL_GROUP = 32
"""Groups of at most so many images are filled from the first on; larger ones begin small, see `group_sizes`."""


class LabeledBox(NamedTuple):
    """An object in the model's input, with its class if one was given."""

    pixels: PixelBox
    label: int | None


class LabeledMask(NamedTuple):
    """The pixels of an object in the model's input, with its class if one was given."""

    pixels: Bool[Tensor, "height width"]
    label: int | None


@dataclass(frozen=True)
class DecodedBatch:
    """The usable images of a batch as one tensor, and a record for each of the others.

    Attributes:
        pixels: (N,C,H,W) float32 in pixel space [0, 1], on the CPU; N is 0 if no image was usable.
        used: Positions of the usable images in the given sequence, ascending; row i of `pixels` is image `used[i]`.
        digests: Content address of each usable file, in the order of `used`.
        boxes: Objects of each usable image that are at least partly inside the model's input, in the order of `used`.
        masks: Masks of objects of each usable image that show at least one pixel of its input, in the order of `used`.
        excluded: One record for each excluded image, with the error's `code`, and its message as `reason`.
        notes: What a reader of the report should know of the values of single images: index and sentence.
        ready: Whether each usable image is a tensor ready for the model, in the order of `used`.
        sizes: Width and height of each usable image when it stands upright, in the order of `used`.
    """

    pixels: Float[Tensor, "image channel height width"]
    used: tuple[int, ...]
    digests: tuple[str, ...]
    excluded: tuple[ImageRecord, ...]
    boxes: tuple[tuple[LabeledBox, ...], ...] = ()
    notes: tuple[tuple[int, str], ...] = ()
    masks: tuple[tuple[LabeledMask, ...], ...] = ()
    ready: tuple[bool, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()


class _Decoded(NamedTuple):
    """One usable image."""

    pixels: Float[Tensor, "channel height width"]
    digest: str
    boxes: tuple[LabeledBox, ...]
    note: str | None
    masks: tuple[LabeledMask, ...]
    ready: bool
    size: tuple[int, int]


def decode_batch(
    images: Sequence[EncodedImage],
    preprocessing: Preprocessing,
    limits: Limits,
    given_up: threading.Event | None = None,
    *,
    device: torch.device = HOST,
) -> DecodedBatch:
    """Decode and preprocess images in order, with as many threads as torch uses, up to `MOST_THREADS`.

    Args:
        images: Encoded files; equal files may occur twice.
        preprocessing: Sizes of the model's input.
        limits: Bytes and pixels allowed per image.
        given_up: Set by another thread when the result is no longer needed; images that have not been started are then
            skipped.
        device: Where the pixels will be copied to; for CUDA their memory is pinned, so that nobody waits for the copy.
    """
    decode = functools.partial(_decode, preprocessing=preprocessing, limits=limits, given_up=given_up)
    threads = min(MOST_THREADS, torch.get_num_threads())
    # Pillow releases the GIL while it decodes and resizes
    found = list(_threads(threads).map(decode, images) if min(threads, len(images)) > 1 else map(decode, images))
    usable = {position: one for position, one in enumerate(found) if isinstance(one, _Decoded)}
    pixels = empty_for((len(usable), *preprocessing.shape), device)
    if usable:
        torch.stack([one.pixels for one in usable.values()], out=pixels)
    return DecodedBatch(
        pixels,
        tuple(usable),
        tuple(one.digest for one in usable.values()),
        tuple(one for one in found if isinstance(one, ImageRecord)),
        tuple(one.boxes for one in usable.values()),
        tuple((images[position].index, one.note) for position, one in usable.items() if one.note is not None),
        tuple(one.masks for one in usable.values()),
        tuple(one.ready for one in usable.values()),
        tuple(one.size for one in usable.values()),
    )


def group_sizes(count: int, size: int, *, growing: bool) -> Iterator[int]:
    """Divide images into consecutive groups.

    Nothing can run before the first group is decoded, so large groups begin small and grow: while one is computed, a
    larger one is decoded. After any group the rest is divided as it is here, so that another call can go on with it.
    The sizes therefore depend on how many images are left: full groups end where a small one would be left, and the
    sizes before them are the binary digits of what leads there, the smallest first: 32, 64, 128, 256, 256, ..., 32.

    Args:
        count: How many images.
        size: Images of a full group, at least 1.
        growing: Whether groups may begin small; otherwise the first is what makes all others full.
    """
    while count:
        taken = min(count, _next_group(count, size, growing=growing))
        yield taken
        count -= taken


def _next_group(count: int, size: int, *, growing: bool) -> int:
    """The size of the next group if so many images are left, which may be fewer."""
    if size <= SMALL_GROUP:
        return size
    if not growing:
        return count % size or size
    ahead = (count - SMALL_GROUP) % size
    if count <= SMALL_GROUP or not ahead:
        return size
    smalls, more = divmod(ahead, SMALL_GROUP)
    lowest_digit = smalls & -smalls
    return lowest_digit * SMALL_GROUP + more


def decode_ahead(
    images: Sequence[EncodedImage],
    size: int,
    preprocessing: Preprocessing,
    limits: Limits,
    *,
    growing: bool = False,
    device: torch.device = HOST,
) -> Iterator[tuple[Sequence[EncodedImage], DecodedBatch]]:
    """Yield groups of consecutive images with the result of `decode_batch`, and decode one group ahead of the caller.

    A photo takes 5 to 12 ms to decode and resize, as long as a hundred passes on a fast accelerator. A caller that
    stops early does not wait: only images that have been started are finished.

    Args:
        images: Encoded files.
        size: Images per group, at least 1.
        preprocessing: Sizes of the model's input.
        limits: Bytes and pixels allowed per image.
        growing: As `group_sizes` takes it.
        device: As `decode_batch` takes it.
    """
    ends = [0, *accumulate(group_sizes(len(images), size, growing=growing))]
    groups = [images[start:stop] for start, stop in pairwise(ends)]
    ahead = ThreadPoolExecutor(1, thread_name_prefix="decode_ahead")
    given_up = threading.Event()

    def decode(group: Sequence[EncodedImage]) -> Future[DecodedBatch]:
        return ahead.submit(decode_batch, group, preprocessing, limits, given_up, device=device)

    try:
        following = [decode(group) for group in groups[:1]]
        for number, group in enumerate(groups):
            decoded = following.pop().result()
            following += [decode(each) for each in groups[number + 1 :][:1]]
            yield group, decoded
    finally:
        given_up.set()
        ahead.shutdown(wait=False, cancel_futures=True)


def _decode(
    image: EncodedImage, *, preprocessing: Preprocessing, limits: Limits, given_up: threading.Event | None
) -> _Decoded | ImageRecord | None:
    """Return the decoded image, a record of why it cannot be used, or None if the result is no longer needed."""
    if given_up is not None and given_up.is_set():
        return None
    digest, field = image.digest, f"images.{image.index}"
    try:
        ready = is_tensor_file(image.data, image.name)
        if ready:
            pixels, note = read_tensor_image(image.data, preprocessing, limits=limits, field=field), None
            size = (preprocessing.shape.width, preprocessing.shape.height)
            # boxes and masks stay where they are, as the tensor does
            preprocessing = preprocessing.model_copy(update={"keep_final": True})
        else:
            decoded = read_image(image.data, preprocessing, limits=limits, field=field)
            pixels, size, note = (
                to_pixels(decoded, preprocessing, limits=limits, field=field),
                decoded.size,
                decoded.note,
            )
        boxes = _labeled_boxes(image, size, preprocessing, field)
        masks = _labeled_masks(image, size, preprocessing, field)
    except InputError as error:
        return ImageRecord(
            index=image.index,
            name=image.name,
            digest=digest,
            label=image.label,
            code=error.code,
            reason=error.message,
        )
    return _Decoded(pixels, digest, boxes, note, masks, ready, size)


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="decode")


# a forked child inherits the pool object but not its threads
os.register_at_fork(after_in_child=_threads.cache_clear)


def _labeled_boxes(
    image: EncodedImage, size: tuple[int, int], preprocessing: Preprocessing, field: str
) -> tuple[LabeledBox, ...]:
    """Return the boxes of an image that are at least partly inside the model's input, with their labels."""
    found = pixel_boxes(boxes_in_pixels(image.boxes, size, field=field), size, preprocessing)
    return tuple(
        LabeledBox(pixels, box.label) for pixels, box in zip(found, image.boxes, strict=True) if pixels is not None
    )


def _labeled_masks(
    image: EncodedImage, size: tuple[int, int], preprocessing: Preprocessing, field: str
) -> tuple[LabeledMask, ...]:
    """Return the masks of an image that show at least one pixel of the model's input, with their labels."""
    found = [mask_on_input(mask_pixels(mask, size, field=field), preprocessing) for mask in image.masks]
    return tuple(
        LabeledMask(pixels, mask.label) for pixels, mask in zip(found, image.masks, strict=True) if pixels.any()
    )
