"""Images with their true classes, ready to be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.contracts.access import Limits
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.training.class_shares import held_out_images, used_images
from auditcore.contracts.training.label_rules import check_labels, require_different_labels
from auditcore.contracts.training.report import LeftOutImage
from auditcore.errors import InvalidRequest, NoUsableImages
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.training.draws import generator

KEPT_BYTES = 2 * 2**30
"""Decoded images up to this size stay in memory; larger sets are decoded again in every epoch."""

Use = Literal["training", "validation"]


@final
@dataclass(frozen=True)
class LabeledImages:
    """Usable images of a training, with their classes.

    Attributes:
        encoded: Their files, in order.
        digests: Content address of each file.
        truth: (N,K): whether a class is a true one of the image.
        preprocessing: How a file becomes the model's input.
        limits: Sizes that are checked before a file is decoded.
        decoded: (N,C,H,W) in [0,1] on the CPU; None if the set is too large to keep.
    """

    encoded: tuple[EncodedImage, ...]
    digests: tuple[str, ...]
    truth: Bool[Tensor, "image class"]
    preprocessing: Preprocessing
    limits: Limits
    decoded: Float[Tensor, "image channel height width"] | None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.encoded)

    def pixels(self, rows: Sequence[int]) -> Float[Tensor, "image channel height width"]:
        """Images of these rows in pixel space [0,1], on the CPU."""
        if self.decoded is not None:
            return self.decoded[list(rows)]
        return decode_batch([self.encoded[row] for row in rows], self.preprocessing, self.limits).pixels

    def take(self, rows: Sequence[int]) -> LabeledImages:
        """Images of these rows, in this order."""
        return replace(
            self,
            encoded=tuple(self.encoded[row] for row in rows),
            digests=tuple(self.digests[row] for row in rows),
            truth=self.truth[list(rows)],
            decoded=None if self.decoded is None else self.decoded[list(rows)],
        )

    @property
    def digest(self) -> Sha256:
        """Content address of the data: of digests and classes, in order."""
        classes = [row.nonzero().flatten().tolist() for row in self.truth]
        return digest_of([list(pair) for pair in zip(self.digests, classes, strict=True)])

    @property
    def per_class(self) -> dict[int, int]:
        """Class index -> number of images with this label, for classes that occur."""
        counts = self.truth.sum(dim=0).tolist()
        return {index: int(count) for index, count in enumerate(counts) if count}


def read_labeled(
    images: Sequence[EncodedImage],
    *,
    use: Use,
    model: Classifier,
    limits: Limits,
) -> tuple[LabeledImages, tuple[LeftOutImage, ...]]:
    """Decode images and check their labels; an image that cannot be decoded is left out and listed.

    Args:
        images: Encoded files.
        use: What they are for; the field that errors name.
        model: Decides on classes, labels per image and the size of its input.
        limits: Sizes that are checked before a file is decoded.

    Raises:
        InvalidRequest: An image has no label, or several for a model with one class per image.
        LabelOutOfRange: A label is no class of the model.
        NoUsableImages: No image can be decoded.
    """
    field = "images" if use == "training" else "validation"
    for image in images:
        check_labels(
            image.labels, index=image.index, name=image.name, classes=model.classes, scores=model.scores, field=field
        )
    batch = decode_batch(images, model.preprocessing, limits)
    if not batch.used:
        msg = f"none of the {len(images)} images can be decoded: {batch.excluded[0].reason}"
        raise NoUsableImages(msg, field=field)
    left_out = tuple(
        LeftOutImage(
            images=use,
            index=one.index,
            name=one.name,
            label=one.label,
            code=one.code or "",
            reason=one.reason or "",
        )
        for one in batch.excluded
    )
    used = [images[position] for position in batch.used]
    truth = torch.zeros(len(used), model.classes, dtype=torch.bool)
    for row, image in enumerate(used):
        truth[row, list(image.labels)] = True
    keep = batch.pixels.numel() * batch.pixels.element_size() <= KEPT_BYTES
    found = LabeledImages(
        tuple(used), batch.digests, truth, model.preprocessing, limits, decoded=batch.pixels if keep else None
    )
    return found, left_out


def require_several_classes(images: LabeledImages) -> None:
    """Refuse training images of a single class, of which a model learns to say nothing else.

    Raises:
        InvalidRequest: Fewer than two classes occur; for a multi-label model, no class is missing in any image.
    """
    require_different_labels(image.labels for image in images.encoded)


def held_out(images: LabeledImages, share: float, seed: int) -> tuple[LabeledImages, LabeledImages]:
    """Divide images at random into those to train on and those to validate on, in the same share of every class.

    Args:
        images: All images.
        share: Share of each class that is held out, rounded, but at least one image and never all.
        seed: Seed of the plan.

    Returns:
        Images to train on, and images to validate on, each in their order.

    Raises:
        InvalidRequest: No class has a second image, so nothing can be held out.
    """
    taken: set[int] = set()
    for index, rows in _classes(images, seed, "held_out"):
        del index
        taken.update(rows[: held_out_images(len(rows), share)])
    if not taken:
        msg = "no class has two images, so none can be held out; send images for validation, or more training images"
        raise InvalidRequest(msg, field="validation")
    return (
        images.take([row for row in range(len(images)) if row not in taken]),
        images.take(sorted(taken)),
    )


def share_of(images: LabeledImages, share: float, seed: int) -> LabeledImages:
    """A share of the images of each class, at least one of each; a smaller share is part of every larger one."""
    if share == 1:
        return images
    taken = {row for _, rows in _classes(images, seed, "share") for row in rows[: used_images(len(rows), share)]}
    return images.take(sorted(taken))


def _classes(images: LabeledImages, seed: int, purpose: str) -> list[tuple[int, list[int]]]:
    """Rows of each class in random order. An image with several labels counts for the first of them."""
    first = images.truth.int().argmax(dim=1).numpy()
    found = []
    for index in np.unique(first).tolist():
        rows = np.flatnonzero(first == index)
        found.append((index, generator(seed, purpose, index).permutation(rows).tolist()))
    return found
